package simulation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tollgate/tollgate/balance/lua"
)

// act is what the world does by itself: carriers send, callers of the API ask, and things break.
func (w *world) act() {
	w.schedule()
	for _, name := range slices.Sorted(maps.Keys(w.stages)) {
		if s := w.stages[name]; s.dueMs != 0 && s.dueMs <= w.nowMs {
			w.rebalance(s)
		}
	}
	if !w.faults {
		return
	}
	if w.made < w.wanted && w.r.IntN(3) > 0 {
		w.send()
	}
	if w.r.IntN(12) == 0 && w.happens("api") {
		w.ask()
	}
	for _, n := range w.masters {
		if n.refuses != "" && w.r.IntN(6) == 0 {
			n.refuses = ""
		}
	}
	if w.r.IntN(3) == 0 {
		w.breakDown()
	}
}

// schedule draws when the world acts next: mostly soon, now and then after a long silence.
func (w *world) schedule() {
	wait := w.r.Int64N(2000)
	switch x := w.r.IntN(20); {
	case !w.faults:
		wait = 10_000
	case x < 6:
		wait = w.r.Int64N(minuteMs)
	case x < 9:
		wait = w.r.Int64N(6 * minuteMs)
	case x == 9 && w.r.IntN(3) == 0:
		wait = w.r.Int64N(2 * hourMs)
	}
	w.actMs = w.nowMs + 1 + wait
}

// send has a carrier send a message of one or more records.
func (w *world) send() {
	c := w.carriers[w.r.IntN(len(w.carriers))]
	var parts []string
	for range 1 + w.r.IntN(3) {
		text := w.newRecord(c)
		if len(w.sent) > 0 && w.r.IntN(5) == 0 {
			back := 1 + w.r.IntN(min(len(w.sent), 40))
			if copied := w.sent[len(w.sent)-back]; (copied.topic == c.topic || w.r.IntN(2) == 0) && w.happens("carrier's copy") {
				text = copied.json
			}
		}
		if w.r.IntN(40) == 0 {
			text = `{"id":"broken","type":"call"}`
		}
		w.sent = append(w.sent, sentRecord{c.topic, text})
		w.records++
		parts = append(parts, text)
	}
	message := strings.Join(parts, "\n")
	if w.r.IntN(2) == 0 {
		message = "[" + strings.Join(parts, ",") + "]"
	}
	partitions := w.topics[c.topic].partitions
	p := partitions[w.r.IntN(len(partitions))]
	w.made++
	w.messages++
	offset := w.produce(p, []byte(message))
	if w.Trace {
		w.trace(fmt.Sprintf("%s sends to partition %d at %d: %s", c.topic, p.key.partition, offset, message))
	}
}

// newRecord writes a record that nobody has seen before.
func (w *world) newRecord(c *carrier) string {
	w.ids++
	eventMs := w.nowMs + c.skewMs - w.r.Int64N([]int64{10 * minuteMs, minuteMs / 2}[w.r.IntN(2)])
	switch w.r.IntN(12) {
	case 0:
		eventMs -= w.r.Int64N(6 * hourMs)
	case 1:
		eventMs = w.nowMs + w.r.Int64N(2*minuteMs)
	}
	number := numberText(w.r.IntN(numberCount))
	peer := []string{"+14155550999", "+14085550123", "+442071838750", "4155550777", "anonymous"}[w.r.IntN(5)]
	direction, from, to := "inbound", peer, number
	if w.r.IntN(2) == 0 {
		direction, from, to = "outbound", number, peer
	}
	start := fmt.Sprint(eventMs)
	if w.r.IntN(3) == 0 {
		start = `"` + rfc3339(eventMs) + `"`
	}
	if w.r.IntN(4) == 0 {
		return fmt.Sprintf(`{"id":"r%d","type":"message","direction":"%s","from":"%s","to":"%s","start":%s,"segments":%d}`,
			w.ids, direction, from, to, start, 1+w.r.IntN(4))
	}
	return fmt.Sprintf(`{"id":"r%d","type":"call","direction":"%s","from":"%s","to":"%s","start":%s,"duration":%d}`,
		w.ids, direction, from, to, start, w.r.IntN(400))
}

// launchValue sends a message on a long way.
func (w *world) launchValue(t *task, p *partition, value []byte) {
	o := outlet{}
	o.batch.Reset()
	o.batch.Append(nil, value)
	sealed, err := o.batch.Seal(w.codec, w.nowMs)
	if err != nil {
		panic(err)
	}
	w.launch(t, p, slices.Clone(sealed), 1)
}

// breakDown breaks something, by the seed's own weights.
func (w *world) breakDown() {
	r := &w.rates
	weights := []struct {
		weight int
		kind   string
		do     func()
	}{
		{r.failover, "redis failover", func() { w.failover(w.r.IntN(shardCount)) }},
		{r.promote, "old master promoted", w.promoteOld},
		{r.loss, "redis lost", w.loseRedis},
		{r.loss, "half a call back", w.tear},
		{r.rebalance, "rebalance", func() { w.rebalance(w.anyStage()) }},
		{r.outage, "clickhouse flips", func() { w.storeDown = !w.storeDown }},
		{r.rebalance / 3, "process crash", func() { w.restart(w.followers[w.r.IntN(len(w.followers))]) }},
		{2, "build changed", func() { w.upgrade(w.followers[w.r.IntN(len(w.followers))]) }},
		{3, "broker clock", w.changeBroker},
		{2, "process clock", func() { w.skews[w.anyStage().name] = w.skew() }},
		{4, "logs cut", w.cutLogs},
		{1, "topic made anew", w.remake},
		{1, "operator restarts", w.restartOperator},
		{r.outage, "redis refuses writes", w.refuseWrites},
		{r.outage, "shard halted by hand", w.haltByHand},
		{r.gateway, "gateway flips", func() { w.gatewayDown = !w.gatewayDown }},
		{r.sleep, "task sleeps", w.sleep},
		{1, "time jumps", w.jump},
	}
	total := 0
	for _, x := range weights {
		total += x.weight
	}
	n := w.r.IntN(total)
	for _, x := range weights {
		if n < x.weight {
			if w.happens(x.kind) {
				w.noteText("fault: %s", x.kind)
				x.do()
			}
			return
		}
		n -= x.weight
	}
}

// jump lets hours pass in which nobody does anything. No request to the card gateway is on its way for so long: a key's
// life covers that delay, and no more (protocol rule 13).
func (w *world) jump() {
	if len(w.requests) > 0 || slices.ContainsFunc(w.tasks, func(t *task) bool { return t.urgent }) {
		return
	}
	w.count("hours in which nobody does anything")
	w.nowMs += w.r.Int64N(3 * hourMs)
}

// sleep stops a task for a long time, in the middle of what it does, or a whole process, or all of a stage.
func (w *world) sleep() {
	t := w.tasks[w.r.IntN(len(w.tasks))]
	same, longest := func(other *task) bool { return other == t }, 90*minuteMs
	switch w.r.IntN(4) {
	case 0:
		if t.carrier != nil && w.happens("process stopped") {
			same, longest = func(other *task) bool { return other.carrier == t.carrier }, 4*hourMs
		}
	case 1:
		if t.stage != nil && w.happens("stage stopped") {
			same, longest = func(other *task) bool { return other.stage == t.stage }, 4*hourMs
		}
	default:
		if t.stage != nil && t.stage.doubled { // others do its work, and leave it behind
			longest = 4 * hourMs
		}
	}
	untilMs := w.nowMs + w.r.Int64N(longest)
	for _, other := range w.tasks {
		if same(other) && !other.urgent {
			other.wakeMs, other.watching = max(other.wakeMs, untilMs), nil
		}
	}
}

func (w *world) anyStage() *stage {
	names := slices.Sorted(maps.Keys(w.stages))
	return w.stages[names[w.r.IntN(len(names))]]
}

func (w *world) anyLog() *partition {
	names := slices.Sorted(maps.Keys(w.topics))
	partitions := w.topics[names[w.r.IntN(len(names))]].partitions
	return partitions[w.r.IntN(len(partitions))]
}

// changeBroker has another broker lead a log, whose clock is wrong by some seconds, or several of them in turn.
func (w *world) changeBroker() {
	l := w.anyLog()
	l.skewMs, l.unsteady = w.skew(), w.r.IntN(2) == 0
}

// skew draws how wrong a clock is.
func (w *world) skew() int64 { return w.r.Int64N(20_000) - 10_000 }

func (w *world) skewOf(t *task) int64 {
	if t.stage == nil {
		return w.skews[t.name]
	}
	return w.skews[t.stage.name]
}

// haltByHand has an operator halt a shard, or resume one that is halted.
func (w *world) haltByHand() {
	n := w.masters[w.r.IntN(shardCount)]
	if !n.now.initialized || n.refuses != "" {
		return
	}
	next := *n.now
	if next.halted = lua.ByHand + "to see what happens"; n.now.halted != "" {
		next.halted = ""
		w.count("shard resumed by hand")
	}
	n.set(&next)
}

// refuseWrites lets a master run out of memory for a while.
func (w *world) refuseWrites() {
	w.masters[w.r.IntN(shardCount)].refuses = "OOM command not allowed when used memory > 'maxmemory'"
}

// healRedis lets every shard take writes again.
func (w *world) healRedis() {
	for _, n := range w.masters {
		n.refuses = ""
		if n.now.halted != "" {
			next := *n.now
			next.halted = ""
			n.set(&next)
		}
	}
}

// keepOld remembers a master that is none any more. Some notice, and take no more writes.
func (w *world) keepOld(shard int) {
	if w.r.IntN(3) == 0 {
		w.count("old master read-only")
		w.masters[shard].refuses = "READONLY You can't write against a read only replica."
	}
	w.old[shard] = append(w.old[shard], w.masters[shard])
	if len(w.old[shard]) > 4 {
		w.old[shard] = w.old[shard][1:]
	}
}

// failover makes a replica the master that lacks the last scripts.
func (w *world) failover(shard int) {
	n := w.masters[shard]
	w.keepOld(shard)
	replica := &node{now: n.now}
	if lost := min(len(n.past), w.r.IntN(9)); lost > 0 {
		w.counts["scripts lost in a failover"] += lost
		at := len(n.past) - lost
		replica.now, replica.past = n.past[at], slices.Clone(n.past[:at])
	}
	w.masters[shard] = replica
}

// promoteOld makes a master of long ago the master again.
func (w *world) promoteOld() {
	shard := w.r.IntN(shardCount)
	if len(w.old[shard]) == 0 {
		return
	}
	again := w.old[shard][w.r.IntN(len(w.old[shard]))]
	w.keepOld(shard)
	again.refuses = ""
	w.masters[shard] = again
	w.count("old master is the master again")
}

// tear brings half a call back that a server had dropped when its file was cut: some accounts are of another offset.
func (w *world) tear() {
	shard := w.r.IntN(shardCount)
	n := w.masters[shard]
	if !n.now.initialized || n.now.torn || len(n.past) == 0 {
		return
	}
	other := n.past[w.r.IntN(len(n.past))].fold
	if other == nil {
		return
	}
	next := *n.now
	next.torn, next.fold = !w.mutation.tornUnseen, clone(n.now.fold)
	for id := range next.fold.Accounts {
		if a := other.Accounts[id]; a != nil && w.r.IntN(2) == 0 {
			copied := *a
			copied.Tokens = slices.Clone(a.Tokens)
			next.fold.Accounts[id] = &copied
		}
	}
	w.count("half a call came back")
	n.set(&next)
}

// loseRedis empties a shard.
func (w *world) loseRedis() {
	shard := w.r.IntN(shardCount)
	w.keepOld(shard)
	w.masters[shard] = &node{now: &redisState{}}
}

// remake deletes a carrier's topic and makes it again: what was not rated by then is gone, which nobody can help.
func (w *world) remake() {
	if name := w.carrierTopics()[w.r.IntN(2)]; w.topicsMade < 12 {
		w.count("carrier's topic is another one")
		w.makeTopic(name, int32(len(w.topics[name].partitions)))
		w.wakeWatchers(name)
	}
}

// wakeWatchers lets fetches on a topic find out that it is another one.
func (w *world) wakeWatchers(name string) {
	for _, t := range w.tasks {
		for _, p := range t.watching {
			if p.Topic == name {
				t.wakeMs = min(t.wakeMs, w.nowMs+w.r.Int64N(1000))
			}
		}
	}
}

func (w *world) restartOperator() {
	w.operators.t.dies, w.operators.t.wakeMs = true, w.nowMs
	w.operate()
}

// arrive lets charge requests arrive whose senders have given up.
func (w *world) arrive() {
	for i := 0; i < len(w.requests); {
		if w.requests[i].dueMs > w.nowMs {
			i++
			continue
		}
		r := w.requests[i].request
		w.requests = slices.Delete(w.requests, i, i+1)
		w.noteText("a late charge request arrives")
		w.charge(r)
	}
}
