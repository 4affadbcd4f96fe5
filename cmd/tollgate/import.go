package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tollgate/tollgate/rater/book"
)

// recordsPerAppend bounds the records of a file that are written to the book at once.
const recordsPerAppend = 1000

func importCommand() *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use: "import FILE", Short: "Load a book file: accounts, numbers, plans, tariffs, formats", Args: cobra.ExactArgs(1),
		Long: "Load a book file (YAML) into the installation. What the book says already is left as it is, so the same file again changes\n" +
			"nothing; what the file says otherwise takes effect, or is refused with its line: accounts, plans and revisions of tariffs\n" +
			"never change, and a number must be released before it gets another owner. A dry run checks the file alone.",
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := loadBookFile(args[0])
			if err != nil {
				return err
			}
			if dryRun {
				if _, err := file.Book(); err != nil {
					return refusedf("%w", err)
				}
				newPrinter(cmd).say("%s: good, %d records", args[0], len(file.Records()))
				return nil
			}
			return withBook(cmd, func(ctx context.Context, a *App) error {
				p := newPrinter(cmd)
				changes, err := a.follower.Changes(file, importID)
				if err != nil {
					return err
				}
				done, err := a.importChanges(ctx, file, changes)
				if err != nil {
					return err
				}
				for _, problem := range done.problems {
					p.say("%s", problem)
				}
				if err := p.fields(done, "accepted", fmt.Sprint(done.Accepted), "unchanged", fmt.Sprint(done.Unchanged), "refused", fmt.Sprint(done.Refused)); err != nil {
					return err
				}
				return done.refusal("the book refused %d records", done.Refused)
			})
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "check the file, and load nothing")
	return c
}

func loadBookFile(path string) (*book.File, error) {
	file, err := book.LoadFile(os.DirFS(filepath.Dir(path)), filepath.Base(path))
	if err != nil {
		return nil, exitError{err, exitUsage}
	}
	return file, nil
}

// imported says what became of the records of a file.
type imported struct {
	// Accepted were written, and count; Unchanged were in the book before; Refused are not in it.
	Accepted  int `json:"accepted"`
	Unchanged int `json:"unchanged"`
	Refused   int `json:"refused"`

	problems []string // a line for each of them
}

func (i imported) String() string {
	return fmt.Sprintf("%d records accepted, %d unchanged, %d refused", i.Accepted, i.Unchanged, i.Refused)
}

// refusal is the failure that refused records are, with the first of them; nil if there are none.
func (i imported) refusal(format string, args ...any) error {
	if len(i.problems) == 0 {
		return nil
	}
	return refusedf("%s: %s", fmt.Sprintf(format, args...), oneLine(i.problems))
}

// problemsInALine bounds how many problems one line tells.
const problemsInALine = 3

// oneLine joins the first problems.
func oneLine(problems []string) string {
	if more := len(problems) - problemsInALine; more > 0 {
		problems = append(slices.Clip(problems[:problemsInALine]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(problems, "; ")
}

// importID is what the ids of all imported records begin with.
const importID = "import"

// importChanges writes changes that the file wants. What was refused, since somebody else wrote the same meanwhile, is no
// problem: at the end it counts whether the book says what the file says.
func (a *App) importChanges(ctx context.Context, file *book.File, changes []book.FileRecord) (imported, error) {
	run := importRun{app: a, why: map[book.Record]string{}}
	for left := changes; len(left) > 0; {
		n, err := run.append(ctx, left)
		if err != nil {
			return imported{}, err
		}
		left = left[n:]
	}
	done := imported{Accepted: len(changes) - len(run.why), Unchanged: len(file.Records()) - len(changes)}
	if len(run.why) > 0 {
		missing, err := a.follower.Changes(file, importID)
		if err != nil {
			return imported{}, err
		}
		for _, r := range missing {
			if why, refused := run.why[r.Record]; refused {
				done.Refused++
				done.problems = append(done.problems, fmt.Sprintf("line %d: %s", r.Line, why))
			}
		}
		done.Unchanged += len(run.why) - done.Refused
	}
	return done, a.copyAccounts(ctx)
}

// importRun is an import under way.
type importRun struct {
	app *App
	why map[book.Record]string // why records were not accepted
}

// append writes the first records to the book and gives their number. A tariff is activated only after all its rows were
// accepted: else prices that nobody wants any more might come into force.
func (i *importRun) append(ctx context.Context, records []book.FileRecord) (n int, err error) {
	var batch []book.Record
	rows := false
	for ; n < len(records) && len(batch) < recordsPerAppend; n++ {
		switch r := records[n].Record.(type) {
		case *book.AddRows:
			rows = true
		case *book.ActivateTariff:
			if rows { // they have to be decided first
				return n, i.decide(ctx, batch)
			}
			if i.torn(r) {
				i.why[r] = "the tariff is not activated, for rows of it were refused"
				continue
			}
		}
		batch = append(batch, records[n].Record)
	}
	return n, i.decide(ctx, batch)
}

// torn tells whether rows of the version were refused.
func (i *importRun) torn(r *book.ActivateTariff) bool {
	for refused := range i.why {
		if rows, are := refused.(*book.AddRows); are && rows.Tariff == r.Tariff && rows.Revision == r.Revision {
			return true
		}
	}
	return false
}

// decide has records decided, and keeps why some were not accepted.
func (i *importRun) decide(ctx context.Context, batch []book.Record) error {
	if len(batch) == 0 {
		return nil
	}
	decisions, err := i.app.follower.Decide(ctx, batch...)
	if err != nil {
		return err
	}
	var repeated []string
	for n, d := range decisions {
		if d.Repeated {
			repeated = append(repeated, d.ID)
		} else if !d.Accepted {
			i.why[batch[n]] = d.Refusal
		}
	}
	if len(repeated) == 0 {
		return nil
	}
	earlier, err := i.app.follower.Earlier(repeated...)
	if err != nil {
		return err
	}
	for n, d := range decisions { // somebody imports the same at the same time
		if first := earlier[d.ID]; d.Repeated && sameRequest(batch[n], first, d.ID) != nil {
			i.why[batch[n]] = cmp.Or(first.Decision.Refusal, d.Refusal)
		}
	}
	return nil
}
