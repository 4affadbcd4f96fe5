package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"github.com/tollgate/tollgate/bench/workload"
)

// credit is a payment by hand or a correction, as the oracle is told of it.
type credit struct {
	Account  uint32 `json:"account"`
	Currency string `json:"currency"`
	Amount   string `json:"amount"`
	Key      string `json:"key"`
	Kind     string `json:"kind"` // as in account_entries: credit or adjustment
}

// cashier is an operator who tops up accounts while everything breaks. When an answer is not clear, the same command is
// given again with the same key, until it is: so every one is accepted once.
type cashier struct {
	in         *installation
	dice       *rand.Rand
	currencies map[string]string // of plans
	drawn      int
	unclear    []credit
	accepted   []credit
	again      int // commands that were given again
}

const (
	cashierEvery  = 3 * time.Second
	commandWithin = 20 * time.Second
	creditsFile   = "credits.jsonl"
)

func newCashier(in *installation, load *workload.Workload) *cashier {
	c := &cashier{in: in, dice: rand.New(rand.NewPCG(in.cfg.Seed, 7)), currencies: map[string]string{}}
	for _, p := range load.Plans() {
		c.currencies[p.Name] = p.Currency
	}
	return c
}

// run gives a command now and then.
func (c *cashier) run(ctx context.Context) error {
	for pause(ctx, between(c.dice, cashierEvery/2, cashierEvery*3/2)) {
		c.unclear = append(c.unclear, c.draw())
		if err := c.settle(ctx, 2); err != nil {
			return err
		}
	}
	return nil
}

// draw thinks of one.
func (c *cashier) draw() credit {
	a := c.in.accounts[c.dice.IntN(len(c.in.accounts))]
	c.drawn++
	k := credit{Account: a.Number, Currency: c.currencies[a.Plan], Key: fmt.Sprintf("chaos-%d", c.drawn), Kind: "credit"}
	cents := 100 + c.dice.IntN(5000)
	k.Amount = fmt.Sprintf("%d.%02d", cents/100, cents%100)
	if c.dice.IntN(4) == 0 {
		k.Kind, k.Amount = "adjustment", "-"+k.Amount
	}
	return k
}

// settle gives up to so many of the unclear commands, the oldest first.
func (c *cashier) settle(ctx context.Context, most int) error {
	for range min(most, len(c.unclear)) {
		k := c.unclear[0]
		c.unclear = c.unclear[1:]
		sure, err := c.give(ctx, k)
		if err != nil {
			return err
		}
		if !sure {
			c.again++
			c.unclear = append(c.unclear, k)
			continue
		}
		c.accepted = append(c.accepted, k)
	}
	return nil
}

// give gives one command. It is sure when the answer says that the account has it, now or from before.
func (c *cashier) give(ctx context.Context, k credit) (sure bool, err error) {
	limited, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	args := []string{"topup", "--key", k.Key}
	if k.Kind == "adjustment" {
		args = append(args, "--note", "chaos")
	}
	out, err := c.in.command(limited, append(args, "--", strconv.FormatUint(uint64(k.Account), 10), k.Amount)...)
	if err != nil {
		return false, nil // whatever it was, it may have been done: ask again
	}
	var answer struct{ Result, Amount string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return false, fmt.Errorf("tollgate topup answered %q: %w", out, err)
	}
	if answer.Result != "applied" {
		return false, fmt.Errorf("tollgate topup of %s to account %d: %s", k.Amount, k.Account, answer.Result)
	}
	return true, nil
}

// close waits until nothing is unclear any more, and writes down what was accepted.
func (c *cashier) close(ctx context.Context) error {
	for len(c.unclear) > 0 {
		if err := c.settle(ctx, len(c.unclear)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%d top-ups have no clear answer: %w", len(c.unclear), context.Cause(ctx))
		}
	}
	file, err := os.Create(c.in.path(creditsFile))
	if err != nil {
		return fmt.Errorf("cannot write down the top-ups: %w", err)
	}
	encoder := json.NewEncoder(file)
	for _, k := range c.accepted {
		err = errors.Join(err, encoder.Encode(k))
	}
	return errors.Join(err, file.Close())
}
