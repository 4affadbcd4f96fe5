package lua

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// Load puts an image into a shard that has no state: in chunks under a private nonce, then all at once. WM and base are
// the image's offset, the journal is empty. ErrInitialized says that another loader was faster. After any other error
// nothing was loaded, or the reply was lost: ask Heads, and begin again.
func (s *Shards) Load(ctx context.Context, shard int32, topicID [16]byte, image *ledger.Shard) error {
	var nonce [16]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return fmt.Errorf("cannot make a nonce: %w", err)
	}
	l := loader{Shards: s, ctx: ctx, shard: shard, nonce: hex.EncodeToString(nonce[:])}
	l.addAll(topicID, image)
	if l.flush(); l.err != nil {
		return l.err
	}
	stem := s.stem(shard)
	keys := []string{stem + "head", stem + "loads", stem}
	return s.order(s.flip.Run(ctx, s.client, keys, l.nonce, l.chunks, image.Generation), shard, "load")
}

// loader sends one image in chunks. After an error it does nothing more.
type loader struct {
	*Shards
	ctx     context.Context
	shard   int32
	nonce   string
	chunks  int
	section string
	values  []any
	bytes   int
	err     error
}

// add puts values that belong together into the section, and sends what is full.
func (l *loader) add(section string, values ...[]byte) {
	if section != l.section || l.bytes >= l.cfg.LoadChunkBytes || len(l.values) >= l.cfg.LoadChunkValues {
		l.flush()
	}
	l.section = section
	for _, v := range values {
		l.values = append(l.values, v)
		l.bytes += len(v)
	}
}

func (l *loader) flush() {
	if len(l.values) > 0 && l.err == nil {
		stem := l.stem(l.shard)
		keys := []string{stem + "head", stem + "loads", stem + "load:" + l.nonce + ":"}
		args := append([]any{l.nonce, l.chunks, l.section}, l.values...)
		l.err = l.order(l.loadChunk.Run(l.ctx, l.client, keys, args...), l.shard, "load")
		l.chunks++
	}
	l.values, l.bytes = l.values[:0], 0
}

func (l *loader) addAll(topicID [16]byte, image *ledger.Shard) {
	for _, id := range slices.Sorted(maps.Keys(image.Accounts)) {
		a := image.Accounts[id]
		l.add("accounts", decimal(int64(id)), a.AppendPacked(nil))
	}
	for _, id := range slices.Sorted(maps.Keys(image.Accounts)) {
		if image.Accounts[id].WantsAttention(image.Params[ledger.GiveUpAfter]) {
			l.add("attention", decimal(int64(id)))
		}
	}
	for _, zone := range slices.Sorted(maps.Keys(image.Closed)) {
		l.add("closed", decimal(int64(zone)), decimal(int64(image.Closed[zone])))
	}
	for source, position := range image.Sources {
		l.add("sources", source.AppendKey(nil), packPosition(position))
	}
	for _, id := range image.ResultOrder {
		l.add("results", idKey(id), packResult(image.Results[id]))
	}
	for _, id := range image.ResultOrder {
		l.add("order", idKey(id))
	}
	for id := range image.Previous.All() {
		l.add("previous", idKey(id))
	}
	for id := range image.Current.All() {
		l.add("current", idKey(id))
	}
	l.add("head", l.head(topicID, image)...)
}

// head gives the fields and values of a shard's head that stands at an image.
func (l *loader) head(topicID [16]byte, image *ledger.Shard) [][]byte {
	fields := [][]byte{
		[]byte("installation"), []byte(l.cfg.Installation), []byte("topic"), []byte(hex.EncodeToString(topicID[:])),
		[]byte("wm"), decimal(image.WM), []byte("base"), decimal(image.WM), []byte("now"), decimal(image.NowMs),
		[]byte("version"), decimal(image.Version), []byte("generation"), decimal(image.Generation),
		[]byte("generation_start"), decimal(image.GenerationStartMs), []byte("covered_since"), decimal(image.CoveredSinceMs),
	}
	for p, value := range image.Params {
		fields = append(fields, []byte("param"+strconv.Itoa(p)), decimal(value))
	}
	return fields
}

func decimal(n int64) []byte { return strconv.AppendInt(nil, n, 10) }

func idKey(id uint64) []byte { return le.AppendUint64(nil, id) }

// packPosition gives the value of a source: i64 offset, u32 index.
func packPosition(p entry.Position) []byte {
	return le.AppendUint32(le.AppendUint64(nil, uint64(p.Offset)), p.Ix)
}

// packResult gives the value of a kept API result: i64 offset, 8 bytes body hash, the outcome's row, i64 intent.
func packResult(r ledger.APIResult) []byte {
	dst := le.AppendUint64(nil, uint64(r.Offset))
	dst = le.AppendUint64(dst, uint64(r.BodyHash))
	dst = posting.AppendOutcomes(dst, []posting.Outcome{r.Outcome})
	if r.Outcome.Flags&posting.OpenedIntent == 0 {
		dst = le.AppendUint64(dst, 0)
	}
	return dst
}

func unpackResult(src []byte) (ledger.APIResult, error) {
	want := 16 + posting.OutcomesLen(1) + 8
	if len(src) != want {
		return ledger.APIResult{}, fmt.Errorf("kept result of %d bytes instead of %d", len(src), want)
	}
	r := ledger.APIResult{Offset: int64(le.Uint64(src)), BodyHash: int64(le.Uint64(src[8:]))}
	row := src[16:]
	if posting.Flags(row[1])&posting.OpenedIntent == 0 {
		row = row[:posting.OutcomesLen(1)]
	}
	outcomes, err := posting.DecodeOutcomes(nil, row, 1)
	if err != nil {
		return r, err
	}
	r.Outcome = outcomes[0]
	return r, nil
}

// Result gives the kept outcome of the API entry with the id, whether there is one, and the watermark of the shard at that
// same moment, -1 for a shard without state: asked one after the other, a master that is behind could deny what another said.
func (s *Shards) Result(ctx context.Context, shard int32, idHash uint64) (wm int64, r ledger.APIResult, kept bool, err error) {
	pipe := s.client.TxPipeline()
	values := pipe.HMGet(ctx, s.stem(shard)+"head", headFields...)
	result := pipe.HGet(ctx, s.stem(shard)+"results", string(idKey(idHash)))
	exec(ctx, pipe)
	var h Head
	head, err := values.Result()
	if err == nil {
		err = h.read(head)
	}
	value, missing := result.Bytes()
	if err == nil && missing == nil {
		r, err = unpackResult(value)
	}
	if err == nil && missing != redis.Nil {
		err = missing
	}
	switch {
	case err != nil:
		return -1, ledger.APIResult{}, false, fmt.Errorf("cannot read result %x of shard %d: %w", idHash, shard, err)
	case !h.Initialized:
		return -1, ledger.APIResult{}, false, nil
	}
	return h.WM, r, missing == nil, nil
}

// Found is an account as it stands in Redis.
type Found struct {
	ID    uint32
	State ledger.Account
}

// Accounts gives those of the accounts that the shard knows.
func (s *Shards) Accounts(ctx context.Context, shard int32, ids []uint32) ([]Found, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	fields := make([]string, len(ids))
	for i, id := range ids {
		fields[i] = strconv.FormatUint(uint64(id), 10)
	}
	values, err := s.client.HMGet(ctx, s.stem(shard)+"accounts", fields...).Result()
	if err != nil {
		return nil, fmt.Errorf("cannot read %d accounts of shard %d: %w", len(ids), shard, err)
	}
	var found []Found
	for i, v := range values {
		packed, ok := v.(string)
		if !ok {
			continue
		}
		a, err := ledger.UnpackAccount([]byte(packed))
		if err != nil {
			return nil, fmt.Errorf("account %d of shard %d: %w", ids[i], shard, err)
		}
		found = append(found, Found{ids[i], a})
	}
	return found, nil
}

// AllAccounts calls each for every account of the shard, in no order. An account that changes meanwhile may be shown
// before or after the change, or twice. It stops at the first error of each.
func (s *Shards) AllAccounts(ctx context.Context, shard int32, each func(Found) error) error {
	scan := s.client.HScan(ctx, s.stem(shard)+"accounts", 0, "", 1000).Iterator()
	for scan.Next(ctx) {
		id, err := strconv.ParseUint(scan.Val(), 10, 32)
		if err != nil || !scan.Next(ctx) {
			return fmt.Errorf("accounts of shard %d: field %q is no account", shard, scan.Val())
		}
		a, err := ledger.UnpackAccount([]byte(scan.Val()))
		if err != nil {
			return fmt.Errorf("account %d of shard %d: %w", id, shard, err)
		}
		if err := each(Found{uint32(id), a}); err != nil {
			return err
		}
	}
	if err := scan.Err(); err != nil {
		return fmt.Errorf("cannot read the accounts of shard %d: %w", shard, err)
	}
	return nil
}

// Attention gives the accounts on which the recharge worker has something to do or to wait for, by number. An account
// whose need follows from a changed GiveUpAfter alone is found at its next entry.
func (s *Shards) Attention(ctx context.Context, shard int32) ([]uint32, error) {
	members, err := s.client.SMembers(ctx, s.stem(shard)+"attention").Result()
	if err != nil {
		return nil, fmt.Errorf("cannot read the attention set of shard %d: %w", shard, err)
	}
	ids := make([]uint32, 0, len(members))
	for _, m := range members {
		id, err := strconv.ParseUint(m, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("attention set of shard %d: %w", shard, err)
		}
		ids = append(ids, uint32(id))
	}
	slices.Sort(ids)
	return ids, nil
}
