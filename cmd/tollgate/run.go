package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/sink"
)

func serveCommand() *cobra.Command {
	var stages []string
	c := &cobra.Command{
		Use: "serve", Short: "Run the service until SIGINT or SIGTERM", Args: cobra.NoArgs,
		Long: "Run the stages of the config, or those of --stages, until SIGINT or SIGTERM; then finish what is under way and end.\n" +
			"Any number of processes may run the same stages: they share the partitions, and none of them can do harm.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(ctx context.Context, a *App) error {
				if len(stages) > 0 {
					a.cfg.Stages = stages
				}
				if err := a.cfg.validate(); err != nil {
					return exitError{err, exitUsage}
				}
				return a.Serve(ctx)
			})
		},
	}
	c.Flags().StringSliceVar(&stages, "stages", nil, "stages to run, of rate, debit, store, audit, act, recharge, late")
	return c
}

// defaultShards is the number of shards of a new installation.
const defaultShards = 64

func migrateCommand() *cobra.Command {
	var shards int32
	var bookFile string
	c := &cobra.Command{
		Use: "migrate", Short: "Make what is missing: logs, tables; open the installation", Args: cobra.NoArgs,
		Long: "Make the topics and tables that are missing, load a book file if one is given, and open the installation.\n" +
			"Only before an installation is open can its book be back-dated, so give the file of a new installation here.\n" +
			"Running it again changes nothing: of the file only what the book says nothing of is added then.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var file *book.File
			if bookFile != "" {
				var err error
				if file, err = loadBookFile(bookFile); err != nil {
					return err
				}
			}
			return withApp(cmd, func(ctx context.Context, a *App) error {
				p := newPrinter(cmd)
				return a.migrate(ctx, shards, file, func(line string) { p.say("%s", line) })
			})
		},
	}
	c.Flags().Int32Var(&shards, "shards", defaultShards, "number of shards of a new installation, fixed for ever; 16 for one machine")
	c.Flags().StringVar(&bookFile, "book", "", "book file to load before the installation is opened")
	return c
}

// migrate brings logs and tables up to date, loads the file, and opens the installation if it is not open.
func (a *App) migrate(ctx context.Context, shards int32, file *book.File, report func(string)) error {
	if existing, err := a.kafka.Partitions(ctx, a.topics.entries); err == nil {
		shards = existing
	}
	if err := a.makeLogs(ctx, shards, report); err != nil {
		return err
	}
	options, err := a.cfg.ClickHouse.options()
	if err != nil {
		return err
	}
	if err := sink.Migrate(ctx, options, 0); err != nil {
		return err
	}
	report("tables of database " + a.cfg.ClickHouse.Database + " are up to date")
	if err := a.follower.CatchUp(ctx); err != nil {
		return err
	}
	if err := a.belong(); err != nil {
		return err
	}
	if file != nil {
		if err := a.migrateBook(ctx, file, report); err != nil {
			return err
		}
	}
	if b := a.follower.Book(); b.Opened() {
		report(fmt.Sprintf("installation %s is open, %d shards", b.Installation(), b.Shards()))
		return nil
	}
	open := &book.Open{Header: book.Header{ID: "open"}, Installation: a.cfg.Installation, Shards: shards}
	if _, err := a.decide(ctx, open); err != nil {
		return err
	}
	report(fmt.Sprintf("installation %s opened with %d shards", a.cfg.Installation, shards))
	return nil
}

// migrateBook loads the file of a new installation, of which all must be accepted: an open book cannot be mended as freely.
// Into the book of an open one it brings only what that says nothing of: whatever was changed since stays so.
func (a *App) migrateBook(ctx context.Context, file *book.File, report func(string)) error {
	b := a.follower.Book()
	if b.Empty() { // nothing is taken of a file that does not fit together, so that all of it can still be mended
		if _, err := file.Book(); err != nil {
			problems := strings.Split(err.Error(), "\n")
			reportAll(problems, report)
			return refusedf("the book file does not fit together; nothing of it was loaded: mend the file and run this again: %s", oneLine(problems))
		}
	}
	changes, err := a.follower.Changes(file, importID)
	if err != nil {
		return err
	}
	var otherwise []string
	if b.Opened() {
		changes = slices.DeleteFunc(changes, func(r book.FileRecord) bool {
			if r.Replaces {
				otherwise = append(otherwise, fmt.Sprintf("line %d: the book says otherwise by now", r.Line))
			}
			return r.Replaces
		})
	}
	done, err := a.importChanges(ctx, file, changes)
	if err != nil {
		return err
	}
	done.Unchanged -= len(otherwise)
	reportAll(append(done.problems, otherwise...), report)
	report("book file loaded: " + done.String())
	switch {
	case !b.Opened():
		return done.refusal("the book refused %d records; the installation stays closed: mend the file and run this again", done.Refused)
	case len(otherwise) > 0:
		return refusedf("the book of the open installation says otherwise than the file in %d records, `tollgate import` puts the file in force: %s",
			len(otherwise), oneLine(otherwise))
	}
	return done.refusal("the book refused %d records", done.Refused)
}

func reportAll(lines []string, report func(string)) {
	for _, line := range lines {
		report(line)
	}
}

// copyAccounts writes what the analysts' views need to know of all accounts to ClickHouse.
func (a *App) copyAccounts(ctx context.Context) error {
	b := a.follower.Book()
	var accounts []sink.Account
	for account := range b.Accounts() {
		accounts = append(accounts, sink.Account{
			ID: account.Number, Currency: account.Currency.String(), MinorDigits: uint8(account.Currency.MinorDigits()),
			Plan: b.PlanAt(account, b.FrontierMs()).Name, Zone: b.ZoneAt(account, b.FrontierMs()).Name, Version: b.Offset(),
		})
	}
	return a.clickhouse.WriteAccounts(ctx, accounts)
}
