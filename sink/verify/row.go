package verify

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// Table says which table holds a row.
type Table uint8

// The tables.
const (
	RatedRecords Table = iota
	AccountEntries
	DeadLetters
	tableCount
)

var tableNames = [tableCount]string{RatedRecords: "rated_records", AccountEntries: "account_entries", DeadLetters: "dead_letters"}

// String gives the table's name in ClickHouse.
func (t Table) String() string { return tableNames[t] }

func tableOf(k entry.Kind) Table {
	switch k {
	case entry.Usage, entry.Release:
		return RatedRecords
	case entry.Rejected:
		return DeadLetters
	}
	return AccountEntries
}

// Row is one posting as a table holds it. Columns that the table does not have are zero.
type Row struct {
	Table           Table
	Ix              uint32
	AppendMs        int64
	SourceTopic     [16]byte
	SourcePartition uint32
	SourceOffset    int64
	SourceIx        uint32
	Account         uint32
	Number          uint64
	IDHash          uint64
	EventMs         int64
	StatementDay    int32
	Result          uint8
	// Not of dead letters:
	Kind                        uint8
	LocalDay                    int32
	AmountUnits, UnappliedUnits int64
	BalanceUnits, IntentUnits   int64
	Flags                       uint8
	// Of rated records only:
	Service                 uint8
	DurationSeconds, Billed uint32
	Tariff, TariffRow       uint32
	// Of account entries only:
	Args [entry.ArgCount]int64
	// Of dead letters only:
	Reason uint8
	// ID is record_id or id; Text is peer, note or raw.
	ID, Text string
}

var le = binary.LittleEndian

// appendFixed appends the columns of fixed width that the table has, little endian. The expressions of clickhouse.go give
// the same bytes.
func (r *Row) appendFixed(dst []byte) []byte {
	dst = le.AppendUint32(dst, r.Ix)
	dst = le.AppendUint64(dst, uint64(r.AppendMs))
	dst = append(dst, r.SourceTopic[:]...)
	dst = le.AppendUint32(dst, r.SourcePartition)
	dst = le.AppendUint64(dst, uint64(r.SourceOffset))
	dst = le.AppendUint32(dst, r.SourceIx)
	dst = le.AppendUint32(dst, r.Account)
	dst = le.AppendUint64(dst, r.Number)
	dst = le.AppendUint64(dst, r.IDHash)
	dst = le.AppendUint64(dst, uint64(r.EventMs))
	dst = le.AppendUint32(dst, uint32(r.StatementDay))
	dst = append(dst, r.Result)
	if r.Table == DeadLetters {
		return append(dst, r.Reason)
	}
	dst = append(dst, r.Kind, r.Flags)
	dst = le.AppendUint32(dst, uint32(r.LocalDay))
	for _, amount := range [...]int64{r.AmountUnits, r.UnappliedUnits, r.BalanceUnits, r.IntentUnits} {
		dst = le.AppendUint64(dst, uint64(amount))
	}
	if r.Table == AccountEntries {
		for _, arg := range r.Args {
			dst = le.AppendUint64(dst, uint64(arg))
		}
		return dst
	}
	dst = append(dst, r.Service)
	for _, n := range [...]uint32{r.DurationSeconds, r.Billed, r.Tariff, r.TariffRow} {
		dst = le.AppendUint32(dst, n)
	}
	return dst
}

// Digest stands for the rows of one block: how many they are, and the sum of their hashes, which no order matters to.
type Digest struct {
	Rows uint64
	Sum  uint64
}

// add takes another row into the digest. The scratch bytes are given back for the next one.
func (d *Digest) add(r *Row, scratch []byte) []byte {
	scratch = r.appendFixed(scratch[:0])
	scratch = le.AppendUint32(scratch, uint32(len(r.ID)))
	scratch = append(scratch, r.ID...)
	scratch = append(scratch, r.Text...)
	d.Rows++
	d.Sum += xxhash.Sum64(scratch)
	return scratch
}

// fill makes r the row of entry i. Its strings alias the block, for as long as that stays.
func (r *Row) fill(b *entry.Block, i int, appendMs int64, o *posting.Outcome) {
	*r = Row{
		Table: tableOf(b.Kind[i]), Ix: uint32(i), AppendMs: appendMs,
		SourceTopic: b.Source.TopicID, SourcePartition: uint32(b.Source.Partition), SourceOffset: b.Offset[i], SourceIx: b.Ix[i],
		Account: b.Account[i], Number: b.Number[i], IDHash: b.IDHash[i], EventMs: b.EventMs[i],
		StatementDay: o.StatementDay, Result: uint8(o.Result), ID: text(b.ID(i)),
	}
	if r.Table == DeadLetters {
		r.Reason, r.Text = uint8(b.Reason[i]), text(b.Extra(i))
		return
	}
	r.Kind, r.LocalDay, r.Flags = uint8(b.Kind[i]), b.LocalDay[i], uint8(o.Flags)
	r.AmountUnits, r.UnappliedUnits = int64(o.AmountUnits), int64(b.AmountUnits[i]-o.AmountUnits)
	r.BalanceUnits, r.IntentUnits = int64(o.BalanceUnits), int64(o.IntentUnits)
	if r.Table == AccountEntries {
		r.Args, r.Text = b.Args(i), text(b.Extra(i))
		return
	}
	r.Service, r.DurationSeconds, r.Billed = uint8(b.Service[i]), b.DurationSeconds[i], b.Billed[i]
	r.Tariff, r.TariffRow, r.Text = b.Tariff[i], b.Row[i], text(b.Peer(i))
}

// text is the bytes as a string, without a copy.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// differing names the columns in which the stored row differs from the one that must be, with both values.
func (r *Row) differing(stored *Row) string {
	var parts []string
	want, got := reflect.ValueOf(*r), reflect.ValueOf(*stored)
	for i := range want.NumField() {
		if w, g := want.Field(i).Interface(), got.Field(i).Interface(); w != g {
			parts = append(parts, fmt.Sprintf("%s is %#v, must be %#v", want.Type().Field(i).Name, g, w))
		}
	}
	return strings.Join(parts, ", ")
}
