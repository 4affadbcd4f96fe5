package recharge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate/tollgate/rater/money"
)

// handClock is a clock that moves only by hand, or by sleeping.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func newHandClock() *handClock { return &handClock{now: time.UnixMilli(1_790_000_000_000)} }

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) Sleep(_ context.Context, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func openBook(t testing.TB, path string, script Script, clock *handClock) *Simulated {
	t.Helper()
	s, err := OpenSimulated(path, script, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func request(account uint32, offset int64, attempt uint8) Request {
	intent := Intent{Installation: "test", Shard: 3, Offset: offset, Ix: 1}
	usd, _ := money.ParseCurrency("USD")
	return Request{Account: account, Intent: intent, Attempt: attempt, AmountUnits: 5 * unit, Currency: usd, IdempotencyKey: intent.Key(attempt)}
}

func TestKey(t *testing.T) {
	i := Intent{Installation: "acme", Shard: 3, Offset: 4711, Ix: 2}
	if i.String() != "acme/3-4711-2" || i.Key(1) != "acme/3-4711-2#1" {
		t.Error(i.String(), i.Key(1))
	}
}

// Each behavior: what the first call says, what a look-up says then, what the second call with the same key says, and
// what a look-up says much later.
func TestBehaviors(t *testing.T) {
	const none = NeedsAuthentication + 1 // no answer, or no attempt
	for behavior, want := range map[Behavior][4]Status{
		Approve:      {Succeeded, Succeeded, Succeeded, Succeeded},
		Decline:      {Declined, Declined, Declined, Declined},
		Authenticate: {NeedsAuthentication, NeedsAuthentication, NeedsAuthentication, NeedsAuthentication},
		Timeout:      {none, Succeeded, Succeeded, Succeeded},
		Lose:         {none, none, Succeeded, Succeeded},
		Late:         {Pending, Pending, Pending, Succeeded},
		LateDecline:  {Pending, Pending, Pending, Declined},
		Reverse:      {Declined, Declined, Declined, Succeeded},
	} {
		clock, ctx := newHandClock(), context.Background()
		path := filepath.Join(t.TempDir(), "book")
		s := openBook(t, path, Script{Rules: []Rule{{Account: 9, Behavior: behavior}}, LateBy: time.Minute}, clock)
		r := request(9, 10, 0)
		call := func() Status {
			c, err := s.Charge(ctx, r)
			if errors.Is(err, ErrNoAnswer) {
				return none
			}
			if err != nil || c.Intent != r.Intent || c.AmountUnits != r.AmountUnits || c.Account != 9 {
				t.Fatalf("%s: %+v, %v", behavior, c, err)
			}
			return c.Status
		}
		look := func() Status {
			reader := openBook(t, path, Script{}, clock) // the book is all that counts
			list, err := reader.Attempts(ctx, 9, r.Intent)
			if err != nil || len(list) > 1 {
				t.Fatalf("%s: %+v, %v", behavior, list, err)
			}
			if len(list) == 0 {
				return none
			}
			return list[0].Status
		}
		got := [4]Status{call(), look(), call(), none}
		clock.Sleep(ctx, time.Minute)
		got[3] = look()
		if got != want {
			t.Errorf("%s: %v, want %v", behavior, got, want)
		}
		captured := 0
		for c := range s.Captured(ctx, time.Time{}) {
			if captured++; c.Status != Succeeded {
				t.Errorf("%s: captured %+v", behavior, c)
			}
		}
		if captured != map[bool]int{true: 1}[want[3] == Succeeded] {
			t.Errorf("%s: %d captures", behavior, captured)
		}
	}
}

func TestScript(t *testing.T) {
	script := Script{
		Rules: []Rule{{Account: 1, Behavior: Decline}, {Account: 2, FirstAttempts: 2, Behavior: Decline}},
		Seed:  7, DeclinePercent: 20, LatePercent: 30,
	}
	for _, test := range []struct {
		account uint32
		attempt uint8
		want    Behavior
	}{{1, 0, Decline}, {1, 5, Decline}, {2, 0, Decline}, {2, 1, Decline}} {
		r := request(test.account, 1, test.attempt)
		if got := script.behavior(&r); got != test.want {
			t.Errorf("account %d attempt %d: %s", test.account, test.attempt, got)
		}
	}
	counts := map[Behavior]int{}
	for i := range int64(10_000) {
		r := request(3, i, 0)
		b := script.behavior(&r)
		if again := script.behavior(&r); again != b {
			t.Fatalf("%s, then %s", b, again)
		}
		counts[b]++
	}
	for b, want := range map[Behavior]int{Decline: 2000, Late: 3000, Approve: 5000} {
		if n := counts[b]; n < want-200 || n > want+200 {
			t.Errorf("%s: %d of 10,000", b, n)
		}
	}
}

// A key is one charge for as long as it lives, and no longer.
func TestKeyLife(t *testing.T) {
	clock, ctx := newHandClock(), context.Background()
	s := openBook(t, filepath.Join(t.TempDir(), "book"), Script{KeyLife: time.Hour}, clock)
	r := request(1, 1, 0)
	first, _ := s.Charge(ctx, r)
	clock.Sleep(ctx, time.Hour-time.Millisecond)
	if again, err := s.Charge(ctx, r); err != nil || again != first {
		t.Errorf("%+v, %v, want %+v", again, err, first)
	}
	clock.Sleep(ctx, time.Millisecond)
	if other, err := s.Charge(ctx, r); err != nil || other.ID == first.ID {
		t.Errorf("the key lives on: %+v, %v", other, err)
	}
}

// A line that was torn by a death is no charge; damage before the last line is refused.
func TestTornBook(t *testing.T) {
	clock, ctx := newHandClock(), context.Background()
	path := filepath.Join(t.TempDir(), "book")
	s := openBook(t, path, Script{}, clock)
	for i := range int64(3) {
		if _, err := s.Charge(ctx, request(1, i, 0)); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	start := strings.LastIndex(strings.TrimSpace(string(whole)), "\n") + 1
	for cut := start; cut < len(whole); cut++ {
		torn := filepath.Join(t.TempDir(), "torn")
		if err := os.WriteFile(torn, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := openBook(t, torn, Script{}, clock)
		if list, err := s.Attempts(ctx, 1, request(1, 2, 0).Intent); err != nil || len(list) != 0 {
			t.Fatalf("cut at %d: %+v, %v", cut, list, err)
		}
		if _, err := s.Charge(ctx, request(1, 2, 0)); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(torn); string(got) != string(whole) {
			t.Fatalf("cut at %d: the book is now\n%s", cut, got)
		}
	}
	damaged := filepath.Join(t.TempDir(), "damaged")
	if err := os.WriteFile(damaged, append([]byte("{oops\n"), whole...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSimulated(damaged, Script{}, clock); err == nil {
		t.Error("a damaged book was opened")
	}
}

// Several processes charge by one book until they are killed with kill -9. Whatever was answered is in the book, and no
// key is in it twice.
func TestBookSurvivesKill(t *testing.T) {
	const processes, keys = 4, 200
	path := filepath.Join(t.TempDir(), "book")
	var waiting sync.WaitGroup
	var mu sync.Mutex
	answered := map[string]string{}
	for p := range processes {
		child := exec.Command(os.Args[0], "-test.run=^TestBookChild$")
		child.Env = append(os.Environ(), "TOLLGATE_TEST_BOOK="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		waiting.Go(func() {
			lines := bufio.NewScanner(out)
			for n := 0; lines.Scan(); n++ {
				key, id, isAnswer := strings.Cut(strings.TrimPrefix(lines.Text(), "answer "), " ")
				if !isAnswer || !strings.HasPrefix(lines.Text(), "answer ") {
					continue
				}
				mu.Lock()
				if before, ok := answered[key]; ok && before != id {
					t.Errorf("key %s is charge %s and %s", key, before, id)
				}
				answered[key] = id
				mu.Unlock()
				if n == 40*(p+1) {
					_ = child.Process.Kill()
				}
			}
			_ = child.Wait()
		})
	}
	waiting.Wait()
	s := openBook(t, path, Script{}, newHandClock())
	if len(s.byKey) != len(s.attempts) {
		t.Errorf("%d keys made %d attempts", len(s.byKey), len(s.attempts))
	}
	for key, id := range answered {
		if i, ok := s.byKey[key]; !ok || s.attempts[i].ID != id {
			t.Errorf("the book does not know that key %s is charge %s", key, id)
		}
	}
	if len(answered) < 40 {
		t.Errorf("only %d answers", len(answered))
	}
}

// TestBookChild is the process that TestBookSurvivesKill kills.
func TestBookChild(t *testing.T) {
	path := os.Getenv("TOLLGATE_TEST_BOOK")
	if path == "" {
		t.Skip("runs as a child only")
	}
	s := openBook(t, path, Script{}, newHandClock())
	for i := range int64(1_000_000) {
		r := request(1, i, 0)
		c, err := s.Charge(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("answer", r.IdempotencyKey, c.ID)
	}
}

func TestGoroutinesShareABook(t *testing.T) {
	clock := newHandClock()
	path := filepath.Join(t.TempDir(), "book")
	books := []*Simulated{openBook(t, path, Script{}, clock), openBook(t, path, Script{}, clock)}
	ids := make([]string, 40)
	var waiting sync.WaitGroup
	for i := range ids {
		waiting.Go(func() {
			c, err := books[i%2].Charge(context.Background(), request(1, int64(i%4), 0))
			if err != nil {
				t.Error(err)
			}
			ids[i] = c.ID
		})
	}
	waiting.Wait()
	for i := range ids {
		if ids[i] != ids[i%4] {
			t.Errorf("call %d made charge %s, call %d charge %s", i, ids[i], i%4, ids[i%4])
		}
	}
}

// FuzzBook feeds lines to the reader of the book.
func FuzzBook(f *testing.F) {
	line, _ := json.Marshal(attempt{Key: "k", Installation: "i", Account: 1, Status: Succeeded})
	f.Add(append(slices.Clone(line), '\n'))
	f.Add([]byte("{}\n{\"key\":"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "book")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenSimulated(path, Script{}, newHandClock())
		if err != nil {
			return
		}
		defer s.Close()
		if _, err := s.Charge(context.Background(), request(1, 1, 0)); err != nil {
			t.Fatal(err)
		}
	})
}
