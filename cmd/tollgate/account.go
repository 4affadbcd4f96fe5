package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/entry"
)

// accountView is an account as commands show it. Amounts are decimal strings of the currency.
type accountView struct {
	Account    uint32   `json:"account"`
	Shard      int32    `json:"shard"`
	Currency   string   `json:"currency"`
	Plan       string   `json:"plan"`
	Zone       string   `json:"zone"`
	Status     string   `json:"status"`
	Balance    string   `json:"balance,omitempty"`
	Threshold  string   `json:"threshold,omitempty"`
	RechargeTo string   `json:"recharge_to,omitempty"`
	Recharge   string   `json:"recharge,omitempty"`
	Numbers    []string `json:"numbers,omitempty"`
}

// view joins what the book and the shard know of an account; state is nil while the shard does not know it.
func view(b *book.Book, account *book.Account, state *ledger.Account) accountView {
	v := accountView{
		Account: account.Number, Shard: b.Shard(account.Number), Currency: account.Currency.String(),
		Plan: b.PlanAt(account, b.FrontierMs()).Name, Zone: b.ZoneAt(account, b.FrontierMs()).Name, Status: "opening",
	}
	if state == nil {
		return v
	}
	format := account.Currency.Format
	v.Balance, v.Threshold, v.RechargeTo = format(state.BalanceUnits), format(state.ThresholdUnits), format(state.RechargeToUnits)
	switch {
	case state.Suspended:
		v.Status = "suspended"
	case state.Low:
		v.Status = "low"
	case state.Open:
		v.Status = "active"
	}
	if state.HasIntent {
		v.Recharge = fmt.Sprintf("%s wanted, attempt %d", format(state.Intent.AmountUnits), state.Intent.Attempt+1)
	}
	return v
}

func accountCommand() *cobra.Command {
	c := &cobra.Command{Use: "account", Short: "Open, show, set and list accounts"}
	c.AddCommand(accountOpenCommand(), accountShowCommand(), accountSetCommand(), accountListCommand())
	return c
}

func accountOpenCommand() *cobra.Command {
	r := &book.OpenAccount{}
	var key string
	c := &cobra.Command{
		Use: "open --currency USD --plan NAME --zone ZONE", Short: "Open an account", Args: cobra.NoArgs,
		Example: "  tollgate account open --currency USD --plan standard --zone America/New_York --balance 50 --threshold 10 --recharge-to 100",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withBook(cmd, func(ctx context.Context, a *App) error {
				r.ID = newID(key)
				decisions, err := a.decide(ctx, r)
				if err != nil {
					return err
				}
				if err := a.copyAccounts(ctx); err != nil {
					return err
				}
				account := a.follower.Book().Account(decisions[0].Account)
				v := view(a.follower.Book(), account, nil)
				return newPrinter(cmd).fields(v, "account", fmt.Sprint(v.Account), "shard", fmt.Sprint(v.Shard), "plan", v.Plan, "zone", v.Zone)
			})
		},
	}
	f := c.Flags()
	f.Uint32Var(&r.Account, "id", 0, "number of the account (default the next free one)")
	f.StringVar(&r.Currency, "currency", "", "ISO 4217 code, the plan's")
	f.StringVar(&r.Plan, "plan", "", "plan by which it is charged")
	f.StringVar(&r.Zone, "zone", "UTC", "IANA time zone of its statement days")
	f.StringVar(&r.Balance, "balance", "", "opening balance")
	f.StringVar(&r.Threshold, "threshold", "", "low-balance limit")
	f.StringVar(&r.RechargeTo, "recharge-to", "", "balance that a recharge brings it to (default no recharge)")
	f.StringVar(&key, "key", "", "idempotency key: the same key opens one account only")
	for _, name := range []string{"currency", "plan"} {
		_ = c.MarkFlagRequired(name)
	}
	return c
}

func accountShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ACCOUNT|+NUMBER", Short: "Show an account as its shard has it now", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBook(cmd, func(ctx context.Context, a *App) error {
				account, err := a.account(args[0])
				if err != nil {
					return err
				}
				state, err := a.live(ctx, account.Number)
				if err != nil {
					return err
				}
				return showAccount(newPrinter(cmd), a.follower.Book(), account, state)
			})
		},
	}
}

// showAccount prints one account with its numbers.
func showAccount(p *printer, b *book.Book, account *book.Account, state *ledger.Account) error {
	v := view(b, account, state)
	for o := range b.Ownerships() {
		if o.Account == account.Number && o.UntilMs > b.FrontierMs() {
			v.Numbers = append(v.Numbers, book.FormatNumber(o.Number))
		}
	}
	return p.fields(v, "account", fmt.Sprint(v.Account), "status", v.Status, "balance", v.Balance+" "+v.Currency,
		"threshold", v.Threshold, "recharge to", v.RechargeTo, "recharge", v.Recharge, "plan", v.Plan, "zone", v.Zone,
		"shard", fmt.Sprint(v.Shard), "numbers", fmt.Sprint(v.Numbers))
}

func accountSetCommand() *cobra.Command {
	var threshold, rechargeTo, plan, zone, key string
	c := &cobra.Command{
		Use: "set ACCOUNT|+NUMBER", Short: "Change thresholds, plan or zone of an account", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if threshold+rechargeTo+plan+zone == "" {
				return usagef("nothing to set: use --threshold, --recharge-to, --plan or --zone")
			}
			return withBook(cmd, func(ctx context.Context, a *App) error {
				account, err := a.account(args[0])
				if err != nil {
					return err
				}
				id := newID(key)
				var records []book.Record
				if plan != "" {
					records = append(records, &book.ChangePlan{Header: book.Header{ID: id + "/plan"}, Account: account.Number, Plan: plan})
				}
				if zone != "" {
					records = append(records, &book.ChangeZone{Header: book.Header{ID: id + "/zone"}, Account: account.Number, Zone: zone})
				}
				if len(records) > 0 {
					if _, err := a.decide(ctx, records...); err != nil {
						return err
					}
					if err := a.copyAccounts(ctx); err != nil {
						return err
					}
				}
				if threshold+rechargeTo != "" {
					if err := a.setThresholds(ctx, account, threshold, rechargeTo, id); err != nil {
						return err
					}
				}
				state, err := a.live(ctx, account.Number)
				if err != nil {
					return err
				}
				return showAccount(newPrinter(cmd), a.follower.Book(), a.follower.Book().Account(account.Number), state)
			})
		},
	}
	c.Flags().StringVar(&threshold, "threshold", "", "low-balance limit")
	c.Flags().StringVar(&rechargeTo, "recharge-to", "", "balance that a recharge brings it to; 0 is no recharge")
	c.Flags().StringVar(&plan, "plan", "", "plan by which it is charged from now on")
	c.Flags().StringVar(&zone, "zone", "", "IANA time zone, from the old zone's next midnight on")
	c.Flags().StringVar(&key, "key", "", "idempotency key: the same key changes nothing twice")
	return c
}

// setThresholds changes one or both thresholds; what is "" stays as it is.
func (a *App) setThresholds(ctx context.Context, account *book.Account, threshold, rechargeTo, key string) error {
	state, err := a.live(ctx, account.Number)
	if err != nil {
		return err
	}
	if state == nil {
		return notFoundf("shard %d does not know account %d yet: is `tollgate serve` running?", a.follower.Book().Shard(account.Number), account.Number)
	}
	r := request{kind: entry.Settings, account: account, key: key}
	r.args[entry.ArgThreshold], r.args[entry.ArgRechargeTo] = int64(state.ThresholdUnits), int64(state.RechargeToUnits)
	for i, text := range map[int]string{entry.ArgThreshold: threshold, entry.ArgRechargeTo: rechargeTo} {
		if text == "" {
			continue
		}
		units, err := amount(account, text)
		if err != nil {
			return err
		}
		r.args[i] = int64(units)
	}
	_, err = a.submit(ctx, r)
	return err
}

func accountListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List accounts with their balances", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withBook(cmd, func(ctx context.Context, a *App) error {
				b := a.follower.Book()
				states := map[uint32]*ledger.Account{}
				for shard := range b.Shards() {
					if err := a.shards.AllAccounts(ctx, shard, func(f lua.Found) error {
						states[f.ID] = &f.State
						return nil
					}); err != nil {
						return err
					}
				}
				var views []accountView
				for account := range b.Accounts() {
					views = append(views, view(b, account, states[account.Number]))
				}
				return rows(newPrinter(cmd), views, []string{"account", "status", "balance", "currency", "threshold", "recharge to", "plan", "zone"},
					func(v accountView) []any {
						return []any{v.Account, v.Status, v.Balance, v.Currency, v.Threshold, v.RechargeTo, v.Plan, v.Zone}
					})
			})
		},
	}
}

// topupCommand credits an account with a payment that was taken outside: a transfer, cash, a voucher.
func topupCommand() *cobra.Command {
	var key, note string
	c := &cobra.Command{
		Use: "topup ACCOUNT|+NUMBER AMOUNT", Short: "Credit a one-time payment; a negative amount with --note corrects a balance",
		Args: cobra.ExactArgs(2), Example: "  tollgate topup 1001 25.00 --key invoice-4711",
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBook(cmd, func(ctx context.Context, a *App) error {
				account, err := a.account(args[0])
				if err != nil {
					return err
				}
				units, err := amount(account, args[1])
				if err != nil {
					return err
				}
				r := request{kind: entry.Credit, account: account, amountUnits: units, key: newID(key), note: note}
				if units <= 0 {
					r.kind = entry.Adjustment
				}
				if r.kind == entry.Adjustment && note == "" {
					return usagef("an amount of %s is a correction: say why with --note", args[1])
				}
				result, err := a.submit(ctx, r)
				if err != nil {
					return err
				}
				type view struct {
					Account uint32 `json:"account"`
					Result  string `json:"result"`
					Amount  string `json:"amount"`
					Balance string `json:"balance"`
					Key     string `json:"key"`
				}
				format := account.Currency.Format
				v := view{account.Number, result.Outcome.Result.String(), format(result.Outcome.AmountUnits), format(result.Outcome.BalanceUnits), r.key}
				return newPrinter(cmd).fields(v, "account", fmt.Sprint(v.Account), "result", v.Result, "amount", v.Amount, "balance", v.Balance, "key", v.Key)
			})
		},
	}
	c.Flags().StringVar(&key, "key", "", "idempotency key: the same key credits once")
	c.Flags().StringVar(&note, "note", "", "why, for the statement")
	return c
}
