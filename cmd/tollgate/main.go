// Command tollgate is Tollgate: the service, and the tools of those who run it. This file is the command table; each
// command has a thin file of its own, and app.go is the only wiring.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // for the time zone of a ClickHouse server; the book has its own

	"github.com/spf13/cobra"

	"github.com/tollgate/tollgate/deploy/local"
)

// Exit statuses. They are stable: scripts may rely on them.
const (
	exitOK       = 0
	exitFailed   = 1 // it did not work, or verify found a difference
	exitUsage    = 2 // the command line or the config is wrong
	exitNotFound = 3 // what was named is not there
	exitRefused  = 4 // the book or the shard refused
)

// exitError is an error with the exit status that it leads to.
type exitError struct {
	error
	status int
}

func (e exitError) Unwrap() error { return e.error }

func refusedf(format string, args ...any) error {
	return exitError{fmt.Errorf(format, args...), exitRefused}
}

func notFoundf(format string, args ...any) error {
	return exitError{fmt.Errorf(format, args...), exitNotFound}
}

func usagef(format string, args ...any) error {
	return exitError{fmt.Errorf(format, args...), exitUsage}
}

func main() {
	local.MaybeRunEngine()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status := run(ctx, newRoot())
	stop()
	os.Exit(status)
}

// run executes the command line and gives the exit status.
func run(ctx context.Context, root *cobra.Command) int {
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(os.Stderr, "tollgate:", err)
	var e exitError
	if errors.As(err, &e) {
		return e.status
	}
	return exitUsage // the command's own work did not begin
}

// giveStatus has every error of a command's own work carry a status. What is without one came from the command line.
func giveStatus(c *cobra.Command) {
	for _, sub := range c.Commands() {
		giveStatus(sub)
	}
	work := c.RunE
	if work == nil {
		return
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		err := work(cmd, args)
		if e := (exitError{}); err != nil && !errors.As(err, &e) {
			return exitError{err, exitFailed}
		}
		return err
	}
}

// newRoot builds the command table.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use: "tollgate", Short: "Prepaid rating of calls and messages: exact, live, provable",
		SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see `%s --help`", err, cmd.CommandPath())
	})
	root.PersistentFlags().StringP("config", "c", "", "config file (default $TOLLGATE_CONFIG, ./tollgate.yml, /etc/tollgate/tollgate.yml)")
	root.PersistentFlags().Bool("json", false, "print JSON, one value a line (the default when the output is no terminal)")
	root.AddGroup(&cobra.Group{ID: "run", Title: "Running it:"}, &cobra.Group{ID: "book", Title: "Accounts, numbers, tariffs:"},
		&cobra.Group{ID: "look", Title: "Looking and proving:"}, &cobra.Group{ID: "try", Title: "Without a server:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", demoCommand(), serveCommand(), migrateCommand(), doctorCommand(), shardCommand())
	add("book", importCommand(), accountCommand(), numberCommand(), tariffCommand(), formatCommand(), topupCommand(), replayCommand())
	add("look", statementCommand(), verifyCommand())
	add("try", decodeCommand(), rateCommand())
	giveStatus(root)
	return root
}
