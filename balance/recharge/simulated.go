package recharge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"
	"time"

	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/stream"
)

// Behavior is what the simulated gateway does with an attempt.
type Behavior string

// The behaviors.
const (
	// Approve captures the money and says so.
	Approve Behavior = "approve"
	// Decline refuses.
	Decline Behavior = "decline"
	// Authenticate refuses until the customer is present.
	Authenticate Behavior = "authenticate"
	// Timeout captures the money, but the first answer gets lost.
	Timeout Behavior = "timeout"
	// Lose loses the first request: nothing is captured, and nothing is answered.
	Lose Behavior = "lose"
	// Late is undecided for Script.LateBy, then captures.
	Late Behavior = "late"
	// LateDecline is undecided for Script.LateBy, then refuses.
	LateDecline Behavior = "late-decline"
	// Reverse refuses, and captures after Script.LateBy all the same.
	Reverse Behavior = "reverse"
)

// Script says how the simulated gateway behaves: by the first rule that fits, else by chance, else it approves.
type Script struct {
	Rules []Rule
	// Seed makes the chances: the same seed does the same with the same attempt.
	Seed uint64
	// The chances of the behaviors by these names, in percent.
	DeclinePercent, AuthenticatePercent, TimeoutPercent, LosePercent, LatePercent, LateDeclinePercent, ReversePercent float64
	// LateBy is how long the late behaviors take.
	LateBy time.Duration
	// AnswerAfter is how long every answer to a charge takes.
	AnswerAfter time.Duration
	// KeyLife is how long an idempotency key is kept: the same key makes a new charge after that.
	KeyLife time.Duration
}

// Rule is the behavior with one account.
type Rule struct {
	Account uint32
	// FirstAttempts is how many attempts of each intent behave so; 0 is all.
	FirstAttempts uint8
	Behavior      Behavior
}

// ErrNoAnswer is what a caller sees of a request or an answer that got lost.
var ErrNoAnswer = errors.New("the simulated gateway gives no answer")

// Simulated is a card gateway for demos and tests. Its book is a file of one JSON line for each attempt, which several
// processes may share, and which outlives them: money is captured when the line is written. It never talks to anyone.
type Simulated struct {
	script Script
	clock  stream.Clock

	mu       sync.Mutex // a lock on the file is the process's; this one is among its goroutines
	file     *os.File
	read     int64 // bytes of the file that are in the maps
	attempts []attempt
	byKey    map[string]int // the newest attempt with the key, index in attempts
	byIntent map[Intent][]int
	lost     map[string]bool // keys whose first request got lost
}

// attempt is a line of the book: a status, and perhaps another one that follows by itself.
type attempt struct {
	Key          string       `json:"key"`
	Installation string       `json:"installation,omitempty"`
	Shard        int32        `json:"shard"`
	Offset       int64        `json:"offset"`
	Ix           uint32       `json:"ix"`
	Attempt      uint8        `json:"attempt"`
	Account      uint32       `json:"account"`
	AmountUnits  money.Amount `json:"amountUnits"`
	Currency     string       `json:"currency"`
	ID           string       `json:"id,omitempty"`
	// Lost is a request that got lost: no attempt was made.
	Lost   bool   `json:"lost,omitempty"`
	Status Status `json:"status"`
	AtMs   int64  `json:"atMs"`
	// Then is the status from ThenMs on, if that is not 0.
	Then   Status `json:"then,omitempty"`
	ThenMs int64  `json:"thenMs,omitempty"`
}

// OpenSimulated opens the book at path, or makes it.
func OpenSimulated(path string, script Script, clock stream.Clock) (*Simulated, error) {
	if script.KeyLife <= 0 {
		script.KeyLife = 24 * time.Hour
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the book of the simulated gateway: %w", err)
	}
	s := &Simulated{script: script, clock: clock, file: file,
		byKey: map[string]int{}, byIntent: map[Intent][]int{}, lost: map[string]bool{}}
	if err := s.locked(func() error { return nil }); err != nil {
		file.Close()
		return nil, err
	}
	return s, nil
}

// Close closes the book.
func (s *Simulated) Close() error { return s.file.Close() }

// KeyLife is that of the script, 24 hours by default.
func (s *Simulated) KeyLife() time.Duration { return s.script.KeyLife }

// Attempts lists the attempts of an intent that are in the book.
func (s *Simulated) Attempts(_ context.Context, account uint32, intent Intent) (list []Charge, err error) {
	err = s.locked(func() error {
		for _, i := range s.byIntent[intent] {
			if a := &s.attempts[i]; a.Account == account {
				list = append(list, a.charge(s.clock.Now()))
			}
		}
		return nil
	})
	return list, err
}

// Captured lists what was captured since, in the order of the book.
func (s *Simulated) Captured(_ context.Context, since time.Time) iter.Seq2[Charge, error] {
	return func(yield func(Charge, error) bool) {
		var list []Charge
		err := s.locked(func() error {
			for i := range s.attempts {
				c := s.attempts[i].charge(s.clock.Now())
				if c.Status == Succeeded && !c.At.Before(since) {
					list = append(list, c)
				}
			}
			return nil
		})
		if err != nil {
			yield(Charge{}, err)
			return
		}
		for _, c := range list {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// Charge makes an attempt as the script says, or gives what became of the one made with the key before.
func (s *Simulated) Charge(ctx context.Context, r Request) (Charge, error) {
	var c Charge
	err := s.locked(func() error {
		now := s.clock.Now()
		if i, made := s.byKey[r.IdempotencyKey]; made && now.Sub(time.UnixMilli(s.attempts[i].AtMs)) < s.script.KeyLife {
			c = s.attempts[i].charge(now)
			return nil
		}
		behavior := s.script.behavior(&r)
		a := s.script.play(&r, behavior, now, s.lost[r.IdempotencyKey])
		a.ID = fmt.Sprintf("sim_%d", len(s.attempts)+1)
		if err := s.write(&a); err != nil {
			return err
		}
		if behavior == Timeout || a.Lost {
			return ErrNoAnswer
		}
		c = a.charge(now)
		return nil
	})
	if s.script.AnswerAfter > 0 {
		s.clock.Sleep(ctx, s.script.AnswerAfter)
	}
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return c, err
}

// behavior draws what is done with an attempt.
func (s *Script) behavior(r *Request) Behavior {
	for _, rule := range s.Rules {
		if rule.Account == r.Account && (rule.FirstAttempts == 0 || r.Attempt < rule.FirstAttempts) {
			return rule.Behavior
		}
	}
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte(r.IdempotencyKey), s.Seed))
	drawn := float64(binary.LittleEndian.Uint64(sum[:])%100_000) / 1000
	for _, chance := range []struct {
		percent  float64
		behavior Behavior
	}{
		{s.DeclinePercent, Decline}, {s.AuthenticatePercent, Authenticate}, {s.TimeoutPercent, Timeout}, {s.LosePercent, Lose},
		{s.LatePercent, Late}, {s.LateDeclinePercent, LateDecline}, {s.ReversePercent, Reverse},
	} {
		if drawn < chance.percent {
			return chance.behavior
		}
		drawn -= chance.percent
	}
	return Approve
}

// play makes the line of an attempt. A request that got lost before gets through.
func (s *Script) play(r *Request, b Behavior, now time.Time, lostBefore bool) attempt {
	a := attempt{
		Key: r.IdempotencyKey, Installation: r.Intent.Installation, Shard: r.Intent.Shard, Offset: r.Intent.Offset, Ix: r.Intent.Ix,
		Attempt: r.Attempt, Account: r.Account, AmountUnits: r.AmountUnits, Currency: r.Currency.String(),
		Status: Succeeded, AtMs: now.UnixMilli(),
	}
	then := now.Add(s.LateBy).UnixMilli()
	switch b {
	case Decline:
		a.Status = Declined
	case Authenticate:
		a.Status = NeedsAuthentication
	case Lose:
		a.Lost = !lostBefore
	case Late:
		a.Status, a.Then, a.ThenMs = Pending, Succeeded, then
	case LateDecline:
		a.Status, a.Then, a.ThenMs = Pending, Declined, then
	case Reverse:
		a.Status, a.Then, a.ThenMs = Declined, Succeeded, then
	}
	return a
}

func (a *attempt) intent() Intent { return Intent{a.Installation, a.Shard, a.Offset, a.Ix} }

// charge is the attempt as it stands at a time.
func (a *attempt) charge(now time.Time) Charge {
	c := Charge{Intent: a.intent(), Attempt: a.Attempt, Account: a.Account, AmountUnits: a.AmountUnits,
		Status: a.Status, ID: a.ID, At: time.UnixMilli(a.AtMs)}
	if a.ThenMs != 0 && now.UnixMilli() >= a.ThenMs {
		c.Status, c.At = a.Then, time.UnixMilli(a.ThenMs)
	}
	return c
}

// locked does something while no other process or goroutine touches the book, after reading what others wrote to it.
func (s *Simulated) locked(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := lockFile(s.file); err != nil {
		return fmt.Errorf("cannot lock the book %s: %w", s.file.Name(), err)
	}
	defer unlockFile(s.file)
	if err := s.catchUp(); err != nil {
		return err
	}
	return do()
}

// catchUp reads the lines that were added. A last line without its end was torn by a process that died: it is cut off,
// for no charge was answered or captured by it.
func (s *Simulated) catchUp() error {
	added, err := io.ReadAll(io.NewSectionReader(s.file, s.read, 1<<62))
	if err != nil {
		return fmt.Errorf("cannot read the book %s: %w", s.file.Name(), err)
	}
	for {
		line, rest, whole := bytes.Cut(added, []byte("\n"))
		if !whole {
			break
		}
		if err := s.add(line); err != nil {
			return err
		}
		s.read += int64(len(line)) + 1
		added = rest
	}
	if len(added) == 0 {
		return nil
	}
	if err := s.file.Truncate(s.read); err != nil {
		return fmt.Errorf("cannot cut a torn line off the book %s: %w", s.file.Name(), err)
	}
	return nil
}

// add takes a line into the maps.
func (s *Simulated) add(line []byte) error {
	var a attempt
	if err := json.Unmarshal(line, &a); err != nil {
		return fmt.Errorf("the book %s is damaged at byte %d: %w", s.file.Name(), s.read, err)
	}
	if a.Lost {
		s.lost[a.Key] = true
		return nil
	}
	s.byKey[a.Key] = len(s.attempts)
	s.byIntent[a.intent()] = append(s.byIntent[a.intent()], len(s.attempts))
	s.attempts = append(s.attempts, a)
	return nil
}

// write adds a line to the book, which is locked and read to its end.
func (s *Simulated) write(a *attempt) error {
	line, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("cannot write down the charge %s: %w", a.Key, err)
	}
	if _, err := s.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("cannot write the charge %s to the book %s: %w", a.Key, s.file.Name(), err)
	}
	return s.catchUp()
}
