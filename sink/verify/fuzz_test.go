package verify

import (
	"encoding/binary"
	"math/big"
	"testing"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

// entriesOf makes blocks of entries of any bytes: 13 bytes an entry, few accounts and ids, so that they meet. The first
// byte of each says whether a new block begins.
func entriesOf(data []byte) (blocks []*entry.Block, times []int64) {
	nowMs, position := int64(1_790_000_000_000), int64(0)
	amounts := []money.Amount{0, 1, -1, -600, 1000, 2_000_000, money.Limit, -money.Limit, ledger.CreditLimit, 1<<63 - 1, -1 << 63}
	for ; len(data) >= 13; data = data[13:] {
		source := entry.Source{Partition: int32(data[1] % 3)} // 0 is no source
		if last := len(blocks) - 1; last < 0 || data[0]&1 == 0 || blocks[last].Source != source {
			b := &entry.Block{}
			b.Reset(source, entry.None)
			nowMs += int64(data[2]) * 3_600_000
			blocks, times = append(blocks, b), append(times, nowMs)
		}
		if data[0]&2 == 0 {
			position++
		}
		arg := int64(binary.LittleEndian.Uint16(data[9:])) - 3
		e := entry.Entry{
			Kind: entry.Kind(1 + data[3]%15), Account: uint32(data[4] % 4), IDHash: uint64(data[5] % 16),
			AmountUnits: amounts[int(data[6])%len(amounts)], EventMs: nowMs - int64(data[7])*3_600_000, LocalDay: 20_000 + int32(data[8]%4),
			Position: entry.Position{Offset: position, Ix: uint32(data[0] >> 6)},
			Args:     [entry.ArgCount]int64{arg, int64(data[11]) * 100, int64(data[12]) * 20_000_000, arg},
		}
		if e.Kind == entry.Param {
			e.Args[entry.ArgParam], e.Args[entry.ArgValue] = int64(data[9]%6), arg*1000
		}
		if e.Kind == entry.FoldVersion {
			e.Args[0] = int64(data[9] % 2)
		}
		if shardWide(e.Kind) {
			e.Account = 0 // as the book makes them
		}
		blocks[len(blocks)-1].Add(&e)
	}
	return blocks, times
}

// FuzzRecount folds any entries with the ledger of the debit stage, and recounts them. Both must agree on every outcome,
// and the balances must be the sums of what moved them.
func FuzzRecount(f *testing.F) {
	life := []byte{}
	for i := range byte(40) {
		life = append(life, i%3, i%2, i%7, i, 1+i%2, i*5, i*3, i%5, i, i%9, 0, 200, i)
	}
	f.Add(life)
	f.Add([]byte{1, 0, 0, 2, 1, 0, 4, 0, 0, 0, 0, 5, 1, 1, 1, 0, 0, 1, 1, 3, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		blocks, times := entriesOf(data)
		shard, r, sums := ledger.New(), newRecount(), map[uint32]*big.Int{}
		for offset, b := range blocks {
			if err := shard.Check(b); err != nil {
				t.Fatal(err)
			}
			want := shard.Fold(int64(offset), times[offset], b, nil)
			got, err := r.apply(int64(offset), times[offset], b, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, o := range want {
				if got[i] != o {
					t.Fatalf("block %d, entry %d (%s): recounted %+v, folded %+v", offset, i, b.Kind[i], got[i], o)
				}
				if sums[b.Account[i]] == nil {
					sums[b.Account[i]] = new(big.Int)
				}
				sums[b.Account[i]].Add(sums[b.Account[i]], big.NewInt(int64(o.AmountUnits)))
			}
		}
		for id, a := range shard.Accounts {
			if sum := sums[id]; sum == nil && a.BalanceUnits != 0 || sum != nil && sum.Cmp(big.NewInt(int64(a.BalanceUnits))) != 0 {
				t.Fatalf("account %d has %d units, the sum is %v", id, a.BalanceUnits, sum)
			}
		}
	})
}
