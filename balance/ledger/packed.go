package ledger

import (
	"encoding/binary"
	"fmt"

	"github.com/tollgate/tollgate/rater/money"
)

// The packed account, little endian, as Redis holds it in the shard's accounts hash and as images carry it:
//
//	u8  layout, 1
//	u8  flags: 1 open, 2 suspended, 4 low, 8 an intent follows
//	u8  failures
//	u8  number of tokens
//	u32 zone
//	i32 floor
//	i64 balance, i64 threshold, i64 recharge target, i64 declined at
//	with an intent: i64 offset, u32 index, u8 attempt, i64 amount, i64 opened at
//	for each token: i64 offset, u32 index, u8 attempt
const (
	accountLayout   = 1
	flagOpen        = 1
	flagSuspended   = 2
	flagLow         = 4
	flagIntent      = 8
	accountHeadLen  = 44
	accountTokenLen = 13
	intentLen       = 29
)

var le = binary.LittleEndian

// AppendPacked appends the packed account, byte for byte what the script writes.
func (a *Account) AppendPacked(dst []byte) []byte {
	flags := bit(flagOpen, a.Open) | bit(flagSuspended, a.Suspended) | bit(flagLow, a.Low) | bit(flagIntent, a.HasIntent)
	dst = append(dst, accountLayout, flags, a.Failures, byte(len(a.Tokens)))
	dst = le.AppendUint32(dst, a.Zone)
	dst = le.AppendUint32(dst, uint32(a.Floor))
	dst = le.AppendUint64(dst, uint64(a.BalanceUnits))
	dst = le.AppendUint64(dst, uint64(a.ThresholdUnits))
	dst = le.AppendUint64(dst, uint64(a.RechargeToUnits))
	dst = le.AppendUint64(dst, uint64(a.DeclinedMs))
	if a.HasIntent {
		dst = le.AppendUint64(dst, uint64(a.Intent.Offset))
		dst = le.AppendUint32(dst, a.Intent.Ix)
		dst = append(dst, a.Intent.Attempt)
		dst = le.AppendUint64(dst, uint64(a.Intent.AmountUnits))
		dst = le.AppendUint64(dst, uint64(a.Intent.OpenedMs))
	}
	for _, t := range a.Tokens {
		dst = le.AppendUint64(dst, uint64(t.Offset))
		dst = le.AppendUint32(dst, t.Ix)
		dst = append(dst, t.Attempt)
	}
	return dst
}

func bit(flag byte, is bool) byte {
	if is {
		return flag
	}
	return 0
}

// UnpackAccount reads a packed account.
func UnpackAccount(src []byte) (Account, error) {
	if len(src) < accountHeadLen || src[0] != accountLayout {
		return Account{}, fmt.Errorf("packed account of %d bytes: unknown layout", len(src))
	}
	flags, tokens := src[1], int(src[3])
	a := Account{
		Open: flags&flagOpen != 0, Suspended: flags&flagSuspended != 0, Low: flags&flagLow != 0,
		HasIntent: flags&flagIntent != 0, Failures: src[2],
		Zone: le.Uint32(src[4:]), Floor: int32(le.Uint32(src[8:])),
		BalanceUnits: money.Amount(le.Uint64(src[12:])), ThresholdUnits: money.Amount(le.Uint64(src[20:])),
		RechargeToUnits: money.Amount(le.Uint64(src[28:])), DeclinedMs: int64(le.Uint64(src[36:])),
	}
	rest := src[accountHeadLen:]
	if a.HasIntent && len(rest) >= intentLen {
		a.Intent = Intent{Offset: int64(le.Uint64(rest)), Ix: le.Uint32(rest[8:]), Attempt: rest[12],
			AmountUnits: money.Amount(le.Uint64(rest[13:])), OpenedMs: int64(le.Uint64(rest[21:]))}
		rest = rest[intentLen:]
	} else if a.HasIntent {
		return Account{}, fmt.Errorf("packed account of %d bytes: the intent is cut short", len(src))
	}
	if len(rest) != tokens*accountTokenLen {
		return Account{}, fmt.Errorf("packed account of %d bytes: %d bytes for %d tokens", len(src), len(rest), tokens)
	}
	for ; len(rest) > 0; rest = rest[accountTokenLen:] {
		a.Tokens = append(a.Tokens, Token{int64(le.Uint64(rest)), le.Uint32(rest[8:]), rest[12]})
	}
	return a, nil
}
