// Package lua is the shards in Redis: the scripts that alone may change them, and the client that calls the scripts.
//
// It stands inside the debit stage. apply.lua folds blocks of entries into a shard, exactly once, by the rules of
// balance/ledger; the other scripts load, wipe, halt and resume a shard. The client packs calls, resends nothing by
// itself and decides nothing: an error means that the outcome is unknown, and that the same call may be sent again.
// Nothing else writes keys of a shard. The package never talks to Kafka.
package lua

import (
	"context"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed apply.lua
var applySource string

//go:embed load_chunk.lua
var loadChunkSource string

//go:embed flip.lua
var flipSource string

//go:embed wipe.lua
var wipeSource string

//go:embed halt.lua
var haltSource string

//go:embed resume.lua
var resumeSource string

// DefaultPrefix begins the names of all keys unless Config says otherwise.
const DefaultPrefix = "tollgate:"

// MaxEntriesPerCall is the default limit on the entries of one call, which bounds how long Redis is held by it: about
// 20 ms. A block is never split, so a single larger block still makes one call.
const MaxEntriesPerCall = 6000

// ByHand begins the reason of a shard that an operator halted, before who it was and why.
const ByHand = "halted by "

// ErrInitialized says that the shard has state already: another loader was faster, or none was needed.
var ErrInitialized = errors.New("the shard has state already")

// ErrUninitialized says that the shard has no state: it must be loaded first.
var ErrUninitialized = errors.New("the shard has no state")

// ErrChanged says that the shard moved on since it was read.
var ErrChanged = errors.New("the shard's watermark has changed")

// Config says whose shards they are.
type Config struct {
	// Prefix begins the names of all keys; empty means DefaultPrefix. It must not contain braces.
	Prefix string
	// Installation names the installation that owns the shards. A shard of another one answers Halt.
	Installation string
	// LoadChunkBytes and LoadChunkValues bound one chunk of a load; 0 means 256 KiB and 2000 values.
	LoadChunkBytes, LoadChunkValues int
}

// Shards is the client of all shards of an installation. Its methods may be called from any goroutine; a Call belongs
// to one goroutine at a time.
type Shards struct {
	client redis.UniversalClient
	cfg    Config

	apply, loadChunk, flip, wipe, halt, resume *redis.Script
}

// Options gives the options with which clients of Redis have to be made; add addresses' credentials and TLS to them.
// One address makes a plain client, several a cluster client (redis.NewUniversalClient). The client retries nothing:
// the loops do, and count it. A call is cut short when its context ends, and may have been executed all the same.
func Options(addrs ...string) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs:                 addrs,
		MaxRetries:            -1,
		ReadTimeout:           10 * time.Second,
		WriteTimeout:          10 * time.Second,
		ContextTimeoutEnabled: true,
		PipelinePoolSize:      16,
		DisableIdentity:       true,
	}
}

// New makes a client of the shards. It connects to nothing yet.
func New(client redis.UniversalClient, cfg Config) *Shards {
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	if cfg.LoadChunkBytes <= 0 {
		cfg.LoadChunkBytes = 256 << 10
	}
	if cfg.LoadChunkValues <= 0 {
		cfg.LoadChunkValues = 2000
	}
	return &Shards{
		client: client, cfg: cfg,
		apply: redis.NewScript(applyScript()), loadChunk: redis.NewScript(loadChunkSource), flip: redis.NewScript(flipSource),
		wipe: redis.NewScript(wipeSource), halt: redis.NewScript(haltSource), resume: redis.NewScript(resumeSource),
	}
}

// stem begins the names of a shard's keys. The braces put them all into one slot of a cluster.
func (s *Shards) stem(shard int32) string {
	return s.cfg.Prefix + "{" + strconv.Itoa(int(shard)) + "}:"
}

// Head is where a shard stands.
type Head struct {
	// Initialized tells whether the shard has state; without, all else is empty, but for WM and Base of a torn one.
	Initialized bool
	// Torn tells that Redis has read back half a call of the script, or one that it had dropped before: what it holds is
	// no state of any offset. Wipe it and load it.
	Torn         bool
	Installation string
	TopicID      [16]byte
	// WM is the highest applied offset, Base the highest whose postings are known to be in Kafka.
	WM, Base int64
	// Version is the version of the fold.
	Version int64
	// Halted is why the shard was halted by hand, empty if it was not.
	Halted string
	// Err is why nothing is known of this shard, though something is of others. All else is empty then.
	Err error
}

// Heads reads where the shards stand into heads, which must be as long, in one pipeline. A head that cannot be read has an
// Err; the error says that none can.
func (s *Shards) Heads(ctx context.Context, shards []int32, heads []Head) error {
	pipe := s.client.Pipeline()
	cmds := make([]*redis.SliceCmd, len(shards))
	for i, shard := range shards {
		cmds[i] = pipe.HMGet(ctx, s.stem(shard)+"head", headFields...)
	}
	exec(ctx, pipe)
	var failure error
	read := 0
	for i, cmd := range cmds {
		values, err := cmd.Result()
		if err == nil {
			err = heads[i].read(values)
		}
		if err != nil {
			failure = fmt.Errorf("cannot read the head of shard %d: %w", shards[i], err)
			heads[i] = Head{Err: failure}
			continue
		}
		read++
	}
	if read > 0 {
		return nil
	}
	return failure
}

// exec sends a pipeline and leaves each command with its answer, or the error that it is without one. Where no connection
// can be made, as with a wrong password, the client gives the error for the whole, and none to the commands.
func exec(ctx context.Context, pipe redis.Pipeliner) {
	cmds, err := pipe.Exec(ctx)
	if err == nil {
		return
	}
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			return
		}
	}
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
}

// headFields are the fields of a head that read wants, in its order.
var headFields = []string{"installation", "topic", "wm", "base", "version", "halted", "begun", "ended"}

func (h *Head) read(values []any) error {
	*h = Head{}
	if len(values) == 0 { // not even that there is none
		return errors.New("redis gave no answer")
	}
	var text [8]string
	for i, v := range values {
		text[i], _ = v.(string)
	}
	if text[2] == "" {
		return nil
	}
	if text[6] != text[7] {
		h.Torn = true
		return parseInts(text[2:4], &h.WM, &h.Base)
	}
	id, err := hex.DecodeString(text[1])
	if err != nil || len(id) != len(h.TopicID) {
		return fmt.Errorf("topic id %q is not 16 bytes in hexadecimal", text[1])
	}
	copy(h.TopicID[:], id)
	h.Initialized, h.Installation, h.Halted = true, text[0], text[5]
	return parseInts(text[2:5], &h.WM, &h.Base, &h.Version)
}

func parseInts(text []string, into ...*int64) error {
	for i, t := range text {
		n, err := strconv.ParseInt(t, 10, 64)
		if err != nil {
			return fmt.Errorf("a number is expected: %w", err)
		}
		*into[i] = n
	}
	return nil
}

// Halt stops a shard: every Apply answers Halt with the reason until Resume. The reason of a shard that is halted
// already stays. The error is ErrUninitialized when there is nothing to halt.
func (s *Shards) Halt(ctx context.Context, shard int32, reason string) error {
	return s.order(s.halt.Run(ctx, s.client, []string{s.stem(shard) + "head"}, reason), shard, "halt")
}

// Resume lets a halted shard go on, and keeps in its history who said so, why, and when. A shard that is not halted is
// left alone.
func (s *Shards) Resume(ctx context.Context, shard int32, who, why string, when time.Time) error {
	keys := []string{s.stem(shard) + "head", s.stem(shard) + "history"}
	return s.order(s.resume.Run(ctx, s.client, keys, when.UTC().Format(time.RFC3339), who, why), shard, "resume")
}

// History gives the shard's resumptions, oldest first, each a JSON array [when, who, why, reason of the halt].
func (s *Shards) History(ctx context.Context, shard int32) ([]string, error) {
	lines, err := s.client.LRange(ctx, s.stem(shard)+"history", 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("cannot read the history of shard %d: %w", shard, err)
	}
	return lines, nil
}

// Wipe removes all state of the shard iff its watermark is still wm; ErrChanged if it is not. A shard without state is
// wiped already.
func (s *Shards) Wipe(ctx context.Context, shard int32, wm int64) error {
	keys := []string{s.stem(shard) + "head", s.stem(shard)}
	err := s.order(s.wipe.Run(ctx, s.client, keys, wm), shard, "wipe")
	if errors.Is(err, ErrUninitialized) {
		return nil
	}
	return err
}

// order reads the reply of a script that does one thing or says why not.
func (s *Shards) order(cmd *redis.Cmd, shard int32, what string) error {
	reply, err := cmd.StringSlice()
	switch {
	case err != nil:
		return fmt.Errorf("cannot %s shard %d: %w", what, shard, err)
	case reply[0] == "OK":
		return nil
	case reply[0] == "UNINIT":
		return fmt.Errorf("cannot %s shard %d: %w", what, shard, ErrUninitialized)
	case reply[0] == "INITIALIZED":
		return fmt.Errorf("cannot %s shard %d: %w", what, shard, ErrInitialized)
	case reply[0] == "CHANGED":
		return fmt.Errorf("cannot %s shard %d: %w: it is %s", what, shard, ErrChanged, reply[1])
	}
	return fmt.Errorf("cannot %s shard %d: redis answered %v; begin again", what, shard, reply)
}
