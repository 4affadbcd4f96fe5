package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/stream"
)

// Limits of a command that talks to the servers.
const (
	bookTimeout   = 30 * time.Second // to read the book, and to read back what was written to it
	answerTimeout = 15 * time.Second // for a shard to apply an entry
	answerPoll    = 10 * time.Millisecond

	maxKeyBytes, maxNoteBytes = 255, 4000 // what a request may carry
)

// readBook reads the book to its end.
func (a *App) readBook(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bookTimeout)
	defer cancel()
	if err := a.checkLogs(ctx); err != nil {
		return err
	}
	if err := a.follower.CatchUp(ctx); err != nil {
		return err
	}
	if !a.follower.Book().Opened() {
		return fmt.Errorf("the installation is not open: %w", errNotMigrated)
	}
	return a.belong()
}

// decide writes records to the book and reads back what became of them. A refusal is an error. A record whose id was used
// before has the first answer, if it was the same request and was accepted.
func (a *App) decide(ctx context.Context, records ...book.Record) ([]book.Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, bookTimeout)
	defer cancel()
	decisions, err := a.follower.Decide(ctx, records...)
	if err != nil {
		return nil, err
	}
	for _, d := range decisions {
		if !d.Accepted && !d.Repeated {
			return decisions, refusedf("the book refused %s: %s", d.Kind, d.Refusal)
		}
	}
	return decisions, a.answerAgain(records, decisions)
}

// answerAgain puts the first answer in the place of each decision that is a repetition. It is an error if the id was of
// another request, or if that was refused: what the caller wants is not in the book.
func (a *App) answerAgain(records []book.Record, decisions []book.Decision) error {
	var ids []string
	for _, d := range decisions {
		if d.Repeated {
			ids = append(ids, d.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	earlier, err := a.follower.Earlier(ids...)
	if err != nil {
		return err
	}
	for i, d := range decisions {
		if !d.Repeated {
			continue
		}
		if err := sameRequest(records[i], earlier[d.ID], d.ID); err != nil {
			return err
		}
		decisions[i] = earlier[d.ID].Decision
		decisions[i].Repeated = true
	}
	return nil
}

// sameRequest tells why the record that first had the id is no answer to the request.
func sameRequest(r book.Record, first book.Earlier, id string) error {
	if first.Record == nil {
		return refusedf("the key %q was used before: use another key", id)
	}
	asked, err := book.Encode(r)
	if err != nil {
		return err
	}
	before, err := book.Encode(first.Record)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(asked, before):
		return refusedf("the key %q was used for another request before: %s; use another key", id, before)
	case !first.Decision.Accepted:
		return refusedf("the book refused the request with the key %q when it came first: %s; use another key", id, first.Decision.Refusal)
	}
	return nil
}

// newID is the id of a record of the book, or the idempotency key of an API entry, where the caller names none.
func newID(named string) string {
	if named != "" {
		return named
	}
	return uuid.NewString()
}

// account finds the account that the operator means.
func (a *App) account(text string) (*book.Account, error) {
	found, err := a.follower.Book().ResolveAccount(text)
	if err != nil {
		return nil, exitError{err, exitNotFound}
	}
	return found, nil
}

// live reads an account from its shard, nil if the shard does not know it yet.
func (a *App) live(ctx context.Context, number uint32) (*ledger.Account, error) {
	found, err := a.shards.Accounts(ctx, a.follower.Book().Shard(number), []uint32{number})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0].State, nil
}

// request is what an operator asks of an account's shard: an API entry.
type request struct {
	kind        entry.Kind
	account     *book.Account
	amountUnits money.Amount
	args        [entry.ArgCount]int64
	key         string // idempotency key
	note        string
}

// entry makes the entry of the request, of which the log keeps key and note.
func (r *request) entry(b *book.Book, nowMs int64) (entry.Entry, error) {
	switch {
	case len(r.key) > maxKeyBytes:
		return entry.Entry{}, usagef("the key has %d bytes: use at most %d", len(r.key), maxKeyBytes)
	case len(r.note) > maxNoteBytes:
		return entry.Entry{}, usagef("the note has %d bytes: use at most %d", len(r.note), maxNoteBytes)
	}
	body := fmt.Sprint(r.kind, r.account.Number, r.amountUnits, r.args, r.note)
	e := entry.Entry{
		Kind: r.kind, Account: r.account.Number, AmountUnits: r.amountUnits, EventMs: nowMs,
		LocalDay: b.LocalDay(r.account, nowMs, min(nowMs, b.FrontierMs())), Args: r.args,
		ID: []byte(r.key), IDHash: max(1, xxhash.Sum64String(principal()+"\x00"+r.key)), Extra: []byte(r.note),
	}
	e.Args[entry.ArgBody] = int64(xxhash.Sum64String(body) & (1<<53 - 1)) // scripts count exactly up to 2⁵³
	return e, nil
}

// submit appends the request to the log of the account's shard, waits until it is applied, and gives what became of it.
// The same key again gives the first outcome; with another request under it, a refusal.
func (a *App) submit(ctx context.Context, r request) (ledger.APIResult, error) {
	b := a.follower.Book()
	shard := b.Shard(r.account.Number)
	e, err := r.entry(b, a.clock.Now().UnixMilli())
	if err != nil {
		return ledger.APIResult{}, err
	}
	offset, err := a.appendEntry(ctx, shard, &e)
	if err != nil {
		return ledger.APIResult{}, err
	}
	result, kept, err := a.awaitResult(ctx, shard, offset, e.IDHash)
	if err != nil {
		return ledger.APIResult{}, fmt.Errorf("the request is in the log at %s[%d] offset %d, key %q, and will be applied, but there is no answer yet: %w", a.topics.entries, shard, offset, r.key, err)
	}
	switch {
	case !kept:
		return result, fmt.Errorf("the request with key %q was applied or had expired, and its outcome is no longer kept: look at the statement", r.key)
	case result.BodyHash != e.Args[entry.ArgBody]:
		return result, refusedf("the key %q was used for another request before", r.key)
	case result.Outcome.Result == posting.Refused:
		return result, refusedf("the shard refused it: an amount or a setting is out of bounds")
	}
	return result, nil
}

// principal is who the operator is: idempotency keys are per principal.
func principal() string {
	if u, err := user.Current(); err == nil {
		return "cli/" + u.Username
	}
	return "cli"
}

// appendEntry appends one entry that no log feeds to a shard's log, and gives its offset.
func (a *App) appendEntry(ctx context.Context, shard int32, e *entry.Entry) (int64, error) {
	var block entry.Block
	block.Reset(entry.Source{}, entry.None)
	block.Add(e)
	producer := a.kafka.NewProducer()
	if err := producer.Append(a.topics.entries, shard, nil, block.AppendTo(nil)); err != nil {
		return 0, err
	}
	for {
		err := producer.Send(ctx)
		if err == nil {
			return producer.Result(0).BaseOffset, nil
		}
		if ctx.Err() != nil || !stream.Retriable(err) {
			return 0, fmt.Errorf("cannot append to %s[%d]: %w", a.topics.entries, shard, err)
		}
		a.clock.Sleep(ctx, 10*answerPoll)
	}
}

// awaitResult waits until the shard has applied the entry at the offset, and gives what it keeps under the id, if it does.
func (a *App) awaitResult(ctx context.Context, shard int32, offset int64, idHash uint64) (ledger.APIResult, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for {
		wm, result, kept, err := a.shards.Result(ctx, shard, idHash)
		switch {
		case ctx.Err() != nil:
			return ledger.APIResult{}, false, errors.New("is a process with the debit stage running?")
		case err != nil || wm >= offset:
			return result, kept, err
		}
		a.clock.Sleep(ctx, answerPoll)
	}
}

// amount reads an amount of the account's currency from the command line.
func amount(account *book.Account, text string) (money.Amount, error) {
	units, err := account.Currency.Parse(strings.TrimSpace(text))
	if err != nil {
		return 0, exitError{err, exitUsage}
	}
	return units, nil
}
