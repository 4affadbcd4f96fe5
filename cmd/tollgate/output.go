package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// printer prints what commands find: tables for people on a terminal, JSON lines for programs off it or with --json.
type printer struct {
	out  io.Writer
	json bool
}

func newPrinter(cmd *cobra.Command) *printer {
	asked, _ := cmd.Flags().GetBool("json")
	out := cmd.OutOrStdout()
	file, isFile := out.(*os.File)
	return &printer{out: out, json: asked || !isFile || !term.IsTerminal(int(file.Fd()))}
}

// rows prints values of one kind: each as a line of JSON, or all as a table with the given columns.
func rows[T any](p *printer, values []T, columns []string, cells func(T) []any) error {
	if p.json {
		for _, v := range values {
			if err := p.value(v); err != nil {
				return err
			}
		}
		return nil
	}
	t := table.NewWriter()
	t.SetOutputMirror(p.out)
	t.SetStyle(table.StyleLight)
	header := make(table.Row, len(columns))
	for i, c := range columns {
		header[i] = c
	}
	t.AppendHeader(header)
	for _, v := range values {
		t.AppendRow(cells(v))
	}
	t.Render()
	return nil
}

// value prints one value as a line of JSON.
func (p *printer) value(v any) error {
	encoder := json.NewEncoder(p.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// fields prints one thing: as a line of JSON, or as lines of name and value.
func (p *printer) fields(v any, pairs ...string) error {
	if p.json {
		return p.value(v)
	}
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		width = max(width, len(pairs[i]))
	}
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(p.out, "%-*s  %s\n", width, pairs[i], pairs[i+1])
	}
	return nil
}

// say prints a line for people; programs get only values.
func (p *printer) say(format string, args ...any) {
	if !p.json {
		fmt.Fprintf(p.out, strings.TrimRight(format, "\n")+"\n", args...)
	}
}

// withApp loads the config, connects, runs the act and closes.
func withApp(cmd *cobra.Command, act func(ctx context.Context, a *App) error) error {
	path, _ := cmd.Flags().GetString("config")
	cfg, err := LoadConfig(path)
	if err != nil {
		return exitError{err, exitUsage}
	}
	a, err := OpenApp(cfg)
	if err != nil {
		return exitError{err, exitUsage}
	}
	err = advise(act(cmd.Context(), a))
	if closing := a.Close(); err == nil {
		err = closing
	}
	return err
}

// withBook is withApp with the book read to its end.
func withBook(cmd *cobra.Command, act func(ctx context.Context, a *App) error) error {
	return withApp(cmd, func(ctx context.Context, a *App) error {
		if err := a.readBook(ctx); err != nil {
			return err
		}
		return act(ctx, a)
	})
}
