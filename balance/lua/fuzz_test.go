package lua

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
)

// value makes an answer of Redis of a text: its words are strings, but for "[" and "]", which make lists, ":", a number,
// and "-", nothing.
func value(words []string) (list []any, rest []string) {
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		switch word {
		case "[":
			var inner []any
			inner, words = value(words)
			list = append(list, inner)
		case "]":
			return list, words
		case ":":
			list = append(list, int64(len(list)))
		case "-":
			list = append(list, nil)
		default:
			list = append(list, word)
		}
	}
	return list, nil
}

// FuzzReply gives any answer of the script to the reader, which must refuse it or give outcomes that are its bytes.
func FuzzReply(f *testing.F) {
	for _, text := range []string{
		"OK|7|5|6|[|n|2|o|xxxx|o|yyyy|]|7|[|n|1|o|z|]", "OK|7|5", "GAP|4", "TRIMMED|9", "UNINIT", "HALT|why", "VERSION|fold version 2",
		"OK|7|5|6", "OK|a|b", "GAP", "-", ":|:", "OK|7|5|6|word", "OK|7|5|6|[|n|[|]|]", "[|OK|]", "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		answer, _ := value(strings.Split(text, "|"))
		c := &Call{cmd: redis.NewCmd(context.Background())}
		c.cmd.SetVal(answer)
		for range 2 { // buffers are kept
			if c.read() != nil {
				return
			}
			total := 0
			for _, o := range c.Reply.Outcomes {
				if cap(o.Bytes) != len(o.Bytes) {
					t.Fatalf("outcomes of block %d could be appended to", o.Offset)
				}
				total += len(o.Bytes)
			}
			if total > len(text) || c.Reply.Status < OK || c.Reply.Status > Version {
				t.Fatalf("%+v of %q", c.Reply, text)
			}
		}
	})
}

// FuzzState reads anything as the keys of a shard: a list of section, key and value. Whatever is accepted must be written
// back as it was read.
func FuzzState(f *testing.F) {
	a := ledger.Account{Open: true, BalanceUnits: -7, ThresholdUnits: 5, Tokens: []ledger.Token{{Offset: 3, Attempt: 1}}}
	r := packResult(ledger.APIResult{Offset: 4, BodyHash: 9, Outcome: posting.Outcome{Result: posting.Applied, AmountUnits: 12}})
	f.Add("accounts", "17", a.AppendPacked(nil))
	f.Add("accounts", "4294967296", a.AppendPacked(nil))
	f.Add("results", "12345678", r)
	f.Add("sources", "0123456789abcdef\x00\x00\x00\x03", []byte("offsets.ix.."))
	f.Add("closed", "2", []byte("20000"))
	f.Add("closed", "-1", []byte("1e9"))
	f.Add("order", "", []byte("12345678"))
	f.Add("ids", "", []byte("1234567"))
	f.Add("head", "wm", []byte("12"))
	f.Fuzz(func(t *testing.T, section, key string, packed []byte) {
		d := &Dump{State: ledger.New()}
		p := parser{state: d.State}
		fields := map[string]string{key: string(packed)}
		switch section {
		case "accounts":
			p.accounts(fields)
			for id, account := range d.State.Accounts {
				if n, err := strconv.ParseInt(key, 10, 64); p.err == nil && (err != nil || n != int64(id)) {
					t.Fatalf("account %q is read as %d", key, id)
				}
				if p.err == nil && packed[1] < 16 && !bytes.Equal(account.AppendPacked(nil), packed) {
					t.Fatalf("account %x is written as %x", packed, account.AppendPacked(nil))
				}
			}
		case "results":
			p.results(fields, nil)
			for _, result := range d.State.Results {
				if again := packResult(result); p.err == nil && !bytes.Equal(again[:len(again)-8], packed[:len(packed)-8]) {
					t.Fatalf("result %x is written as %x", packed, again)
				}
			}
		case "sources":
			p.sources(fields)
			for source, position := range d.State.Sources {
				if p.err == nil && (string(source.AppendKey(nil)) != key || !bytes.Equal(packPosition(position), packed)) {
					t.Fatalf("source %x is written as %x", key, source.AppendKey(nil))
				}
			}
		case "closed":
			p.closed(fields)
			for zone, day := range d.State.Closed {
				z, zErr := strconv.ParseInt(key, 10, 64)
				n, nErr := strconv.ParseInt(string(packed), 10, 64)
				if p.err == nil && (zErr != nil || nErr != nil || z != int64(zone) || n != int64(day)) {
					t.Fatalf("day %q of zone %q is read as %d of %d", packed, key, day, zone)
				}
			}
		case "order":
			p.results(nil, []string{string(packed)})
		case "ids":
			p.ids([]string{string(packed)}, &d.State.Current)
		case "head":
			whole := map[string]string{"topic": strings.Repeat("0", 32), "wm": "3", "base": "2", "version": "1", "now": "5",
				"generation": "1", "generation_start": "0", "covered_since": "0", "param0": "1", key: string(packed)}
			p.head(d, whole)
		}
	})
}
