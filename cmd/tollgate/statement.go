package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tollgate/tollgate/sink/statement"
)

func statementCommand() *cobra.Command {
	var fromText, toText, format string
	c := &cobra.Command{
		Use: "statement ACCOUNT|+NUMBER", Short: "Print the daily statement of an account", Args: cobra.ExactArgs(1),
		Example: "  tollgate statement 1001 --day 2026-11-24\n  tollgate statement 1001 --day 2026-11-01 --to 2026-11-30 --format csv",
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBook(cmd, func(ctx context.Context, a *App) error {
				account, err := a.account(args[0])
				if err != nil {
					return err
				}
				b := a.follower.Book()
				from := statement.Day(b.LocalDay(account, a.clock.Now().UnixMilli(), b.FrontierMs()))
				if fromText != "" {
					if from, err = statement.ParseDay(fromText); err != nil {
						return exitError{err, exitUsage}
					}
				}
				to := from
				if toText != "" {
					if to, err = statement.ParseDay(toText); err != nil {
						return exitError{err, exitUsage}
					}
				}
				return a.printStatement(ctx, newPrinter(cmd), account.Number, from, to, format)
			})
		},
	}
	c.Flags().StringVar(&fromText, "day", "", "statement day, or the first of several (default today in the account's zone)")
	c.Flags().StringVar(&toText, "to", "", "last statement day (default the first)")
	c.Flags().StringVar(&format, "format", "", "table, json or csv (default a table on a terminal, else json)")
	return c
}

// printStatement prints the statement of one account for the days from..to.
func (a *App) printStatement(ctx context.Context, p *printer, account uint32, from, to statement.Day, format string) error {
	s, err := statement.NewReader(a.clickhouse.Conn()).Statement(ctx, account, from, to)
	if err != nil {
		return err
	}
	if format == "" {
		format = map[bool]string{true: "json", false: "table"}[p.json]
	}
	write := map[string]func(io.Writer) error{"table": s.WriteTable, "json": s.WriteJSON, "csv": s.WriteCSV}[format]
	if write == nil {
		return usagef("unknown format %q: use table, json or csv", format)
	}
	return write(p.out)
}

// showStatement prints the statement of one account for one day, as a table.
func (a *App) showStatement(ctx context.Context, p *printer, account uint32, day time.Time) error {
	date, err := statement.ParseDay(day.Format(time.DateOnly))
	if err != nil {
		return err
	}
	return a.printStatement(ctx, p, account, date, date, "table")
}
