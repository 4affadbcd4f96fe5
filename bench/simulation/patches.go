package simulation

// Patch is a mutant of the production code itself: a text that stands once in a source file, and what takes its place.
// TestMutants builds a test binary of its own for each, with the patched file laid over the tree: no loop has a switch.
type Patch struct {
	// What says what is taken away.
	What string
	// File is named from the root of the tree.
	File, Old, New string
}

// Patches are the mutants of production code by name.
var Patches = map[string]Patch{
	"format-unawaited": {"the format is that of the append time, but rate does not wait until the book knows it", "rater/book/book.go",
		"atMs := appendMs - Margin; b.Opened() && b.frontierMs >= atMs {", "atMs := appendMs - Margin; b.Opened() {"},
	"earlier-routing-time": {"records are routed by the earlier of event and append time", "rater/book/rate.go",
		"atMs := rec.EventMs - Margin", "atMs := min(rec.EventMs, appendMs) - Margin"},
	"replay-of-the-future": {"a replay counts though the book does not know its record's time", "rater/book/entry.go",
		"if atMs > frontierMs {", "if atMs > frontierMs+1<<50 {"},
	"replay-per-place": {"the first replay wins for each place in a topic, not for each record id", "rater/book/entry.go",
		`	if _, again := b.replayed[e.IDHash]; again {
		return refusedf("the record %q was replayed already", e.ID)
	}
	b.replayed[e.IDHash] = struct{}{}
`, `	place := uint64(r.TopicID[31])<<56 ^ uint64(r.Partition)<<48 ^ uint64(r.Ix)<<40 ^ uint64(r.Piece)<<32 ^ uint64(r.Offset)
	if _, again := b.replayed[place]; again {
		return refusedf("the record %q was replayed already", e.ID)
	}
	b.replayed[place] = struct{}{}
`},
	"change-twice": {"a change that is sent twice is decided twice", "rater/book/builder.go",
		"if _, d.Repeated = b.ids[id]; d.Repeated {", "if _, d.Repeated = b.ids[id]; d.Repeated && false {"},
	"owner-overruled": {"a number may be assigned though it has an owner", "rater/book/change.go",
		"if last := h.newest; last.value != 0 {", "if last := h.newest; last.value != 0 && false {"},
	"follower-left-behind": {"a follower of the book whose log was cut does not begin again at an image", "rater/book/follow.go",
		"if errors.Is(fetched.Err, stream.ErrOffsetOutOfRange) {", "if errors.Is(fetched.Err, stream.ErrOffsetOutOfRange) && false {"},
	"topic-unchecked": {"rate never looks whether a topic was made anew", "rater/rate.go",
		"if id == l.ids[topic] {", "if id == l.ids[topic] || true {"},

	"idle-topic-unchecked": {"rate looks at the id of a topic only when a fetch brings something", "rater/rate.go",
		"if !fetched[topic] && !idle {", "if !fetched[topic] {"},

	"shipped-untold": {"debit does not tell an idle shard that its postings are in Kafka", "balance/debit.go",
		"if s.phase != running || s.used == 0 && !s.untold {", "if s.phase != running || s.used == 0 {"},
	"late-by-window": {"a record is late by the window alone, whatever the shard remembers", "balance/ledger/fold.go",
		"b.EventMs[i] < max(s.NowMs-window, s.CoveredSinceMs)+LateMarginMs:", "b.EventMs[i] < s.NowMs-window+LateMarginMs:"},
	"ids-dropped-early": {"the ids of a generation are forgotten when it ends", "balance/ledger/fold.go",
		"s.Previous, s.Current = s.Current, IDs{}", "s.Previous, s.Current = IDs{}, IDs{}"},
	"repeat-kept": {"of an API entry that came twice, the second outcome is kept", "balance/ledger/fold.go",
		"			return s.passive(a, refusal)\n", `			o := s.passive(a, refusal)
			if kind.FromAPI() {
				s.keepResult(b.IDHash[i], APIResult{Offset: offset, BodyHash: b.Args(i)[entry.ArgBody], Outcome: o})
			}
			return o
`},
	"failure-of-any-attempt": {"a failure counts whichever attempt it is of", "balance/ledger/fold.go",
		"if !a.awaits(args) || int64(a.Intent.Attempt) != args[entry.ArgAttempt] {", "if !a.awaits(args) {"},
	"intent-unshipped": {"an intent is charged though its posting may not be in Kafka", "balance/recharge/worker.go",
		"if a.Intent.Offset > h.Base {", "if a.Intent.Offset > h.Base && false {"},
	"audit-left-behind": {"an audit whose log was cut does not begin again at an image", "balance/audit/audit.go",
		"\t\tif errors.Is(err, stream.ErrOffsetOutOfRange) {\n\t\t\tl.started = false\n\t\t}\n", ""},
	"no-skip": {"act and late take a block of postings that they have taken before", "balance/posting/cursor.go",
		"case entryOffset <= c.Last:\n\t\treturn Skip", "case entryOffset <= c.Last:\n\t\treturn Take"},

	"checksum-unread": {"nobody checks the checksums of batches", "rater/stream/fetched.go",
		"if crc32.Checksum(b[atAttributes:], castagnoli) != be.Uint32(b[atChecksum:]) {", "if crc32.Checksum(b[atAttributes:], castagnoli) != be.Uint32(b[atChecksum:]) && false {"},

	"no-skip-in-store": {"store takes a block of postings that it has taken before", "sink/sink.go",
		"if err == nil && offset <= s.taken.Last {", "if err == nil && offset <= s.taken.Last && false {"},
	"store-commits-taken": {"store commits what it has read before it is stored", "sink/sink.go",
		"Offset: s.stored.Next, Metadata: s.stored.Metadata(l.topicID)", "Offset: s.taken.Next, Metadata: s.taken.Metadata(l.topicID)"},
	"late-before-store": {"late records are looked up before ClickHouse has what was before them", "sink/late/late.go",
		"case stored.Last >= s.taken.Last:", "case stored.Last >= s.taken.Last || true:"},

	"price-unnamed": {"an entry does not say which row of its tariff priced it", "rater/book/rate.go",
		"e.Tariff, e.Row = -charge.AmountUnits, charge.Billed, v.Number, row", "e.Tariff, e.Row = -charge.AmountUnits, charge.Billed, v.Number, 0*row"},
	"release-without-peer": {"a release does not say all that its late record said", "sink/late/late.go",
		"l.entry.Kind, l.entry.Position, l.entry.Extra = entry.Release,", "l.entry.Kind, l.entry.Position, l.entry.Peer = entry.Release,"},
	"failure-unnamed": {"a charge that wants the customer is stated as a decline", "balance/recharge/append.go",
		"e.Args[entry.ArgFailure] = entry.FailureAuthentication", "e.Args[entry.ArgFailure] = entry.FailureDeclined"},
	"results-unbounded": {"the outcomes that are kept for callers never make room", "balance/ledger/fold.go",
		"> max(1, s.Params[ResultsKept]) {", "> max(1, s.Params[ResultsKept]) && false {"},
	"column-crossed": {"a column of every table holds what belongs into another", "sink/columns.go",
		"return c.sourceOffset", "return c.entryOffset"},
	"closing-early": {"the closing of a day is written before the rows that were before it", "sink/rows.go",
		"	deadLetters = iota\n	ratedRecords\n	accountEntries\n	closings\n", "	closings = iota\n	deadLetters\n	ratedRecords\n	accountEntries\n"},
	"letters-astray": {"rejected records lie among the entries of accounts", "sink/rows.go",
		"return deadLetters", "return accountEntries"},
	"event-of-balance": {"the event that a recharge is wanted tells another amount", "balance/notify/event.go",
		"d.Amount = currency.Format(o.IntentUnits)", "d.Amount = currency.Format(o.BalanceUnits)"},
}
