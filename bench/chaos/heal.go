package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	healPoll = time.Second
	// quietFor is how many looks in a row must find that nothing moves any more.
	quietFor = 4
)

// heal waits, with all faults undone, until everything is through: every record rated, applied and stored, every capture
// credited, and nothing moves any more.
func (in *installation) heal(ctx context.Context) error {
	in.report.suffered(time.Since(in.began))
	in.say("all faults are over: healing")
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, in.cfg.HealWithin)
	defer cancel()
	if err := in.rest(ctx); err != nil {
		return err
	}
	if err := in.cashier.close(ctx); err != nil { // when all is well, every answer is clear
		return err
	}
	if err := in.rest(ctx); err != nil {
		return err
	}
	in.report.healed(time.Since(began))
	return nil
}

// rest waits until nothing is under way and nothing moves.
func (in *installation) rest(ctx context.Context) error {
	last, quiet := "", 0
	err := in.await(ctx, func() string {
		left, mark, err := in.look(ctx)
		if err != nil {
			left = err.Error()
		}
		if quiet++; left != "" || mark != last {
			quiet = 0
		}
		if last = mark; quiet < quietFor && left == "" {
			left = "accounts to come to rest"
		}
		return left
	})
	if err != nil {
		return fmt.Errorf("not everything was through within %s after the last fault: %w", in.cfg.HealWithin, err)
	}
	return nil
}

// awaitOpening waits until every shard has all that the book says, so that the faults meet an installation at work.
func (in *installation) awaitOpening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, in.cfg.HealWithin)
	defer cancel()
	err := in.await(ctx, func() string {
		applied, err := in.query(ctx, "SELECT count() FROM tollgate.account_entries FINAL WHERE kind = 'param'")
		if err != nil {
			return err.Error()
		}
		if applied != strconv.Itoa(in.cfg.Shards) {
			return fmt.Sprintf("%s of %d shards have read the book", applied, in.cfg.Shards)
		}
		return ""
	})
	if err != nil {
		return fmt.Errorf("the installation did not open: %w", err)
	}
	return nil
}

// await looks now and then until nothing is left, and says what is.
func (in *installation) await(ctx context.Context, look func() (left string)) error {
	for said := time.Now(); ; {
		left := look()
		if left == "" {
			return nil
		}
		if time.Since(said) >= sayEvery {
			said = time.Now()
			in.say("waiting: %s", left)
		}
		if !pause(ctx, healPoll) {
			return fmt.Errorf("%w, last seen: %s", context.Cause(ctx), left)
		}
	}
}

// openRecharges counts those that are neither credited nor given up: each of them may be charged at any moment.
const openRecharges = `WITH decided AS (SELECT shard, entry_offset, ix FROM tollgate.rated_records FINAL WHERE intent_units != 0
		UNION ALL SELECT shard, entry_offset, ix FROM tollgate.account_entries FINAL WHERE intent_units != 0)
	SELECT count() FROM decided WHERE (shard, entry_offset, toInt64(ix)) NOT IN (SELECT shard, arg0, arg1 FROM tollgate.account_entries FINAL
		WHERE kind = 'payment' AND result = 'applied' OR kind = 'payment-failed' AND bitAnd(flags, 128) != 0)`

// look tells what is still under way, "" for nothing, and a mark that changes with everything that moves.
func (in *installation) look(ctx context.Context) (left, mark string, err error) {
	unrated, err := in.unrated(ctx)
	if err != nil || unrated > 0 {
		return fmt.Sprintf("%d messages to rate", unrated), "", err
	}
	out, err := in.command(ctx, "shard", "inspect")
	if err != nil {
		return "", "", err
	}
	shards, err := lines[struct {
		Shard  int32
		State  string
		Reason string
		Lag    int64
	}](out)
	if err != nil {
		return "", "", err
	}
	for _, s := range shards {
		if s.State != "running" || s.Lag > 0 {
			return fmt.Sprintf("shard %d is %s %s, %d blocks to apply", s.Shard, s.State, s.Reason, s.Lag), "", nil
		}
	}
	unstored, end, err := in.behind(ctx, "store", "postings", int32(in.cfg.Shards))
	if err != nil || unstored > 0 {
		return fmt.Sprintf("%d blocks to store", unstored), "", err
	}
	captured, err := in.captured()
	if err != nil {
		return "", "", err
	}
	credited, err := in.query(ctx, "SELECT count() FROM tollgate.account_entries FINAL WHERE kind = 'payment' AND result = 'applied'")
	if err != nil || credited != strconv.Itoa(captured) {
		return fmt.Sprintf("%s of %d captured recharges credited", credited, captured), "", err
	}
	if open, err := in.query(ctx, openRecharges); err != nil || open != "0" {
		return open + " recharges are open", "", err
	}
	left, err = in.unaudited(ctx)
	return left, fmt.Sprint(end, captured), err
}

// unaudited tells which shard's newest entries no audit has folded again yet, "" for none.
func (in *installation) unaudited(ctx context.Context) (left string, err error) {
	edges, err := in.direct.ListOffsets(ctx, "entries", allOf(int32(in.cfg.Shards)))
	if err != nil {
		return "", err
	}
	audited := map[string]float64{}
	for _, s := range in.services {
		shown, err := s.metrics(ctx)
		if err != nil {
			return "", err
		}
		for series, value := range shown {
			audited[series] = max(audited[series], value)
		}
	}
	for _, e := range edges {
		series := fmt.Sprintf(`%s{shard="%d"}`, auditedOffset, e.Partition)
		if newest, known := audited[series]; e.End > 0 && (!known || int64(newest) < e.End-1) {
			return fmt.Sprintf("shard %d is audited up to entry %.0f of %d", e.Partition, newest, e.End-1), nil
		}
	}
	return "", nil
}

// unrated is how many messages of the carriers are not rated yet.
func (in *installation) unrated(ctx context.Context) (n int64, err error) {
	for _, c := range carriers {
		left, _, err := in.behind(ctx, "rate", c.Name, c.partitions)
		if err != nil {
			return 0, err
		}
		n += left
	}
	return n, nil
}

// behind tells how many messages of a topic a stage has not taken yet, and the sum of the ends.
func (in *installation) behind(ctx context.Context, stage, topic string, count int32) (left, end int64, err error) {
	partitions := allOf(count)
	committed, err := in.direct.Committed(ctx, name+"-"+stage, topic, partitions)
	if err != nil {
		return 0, 0, err
	}
	taken := map[int32]int64{}
	for _, c := range committed {
		taken[c.Partition] = max(0, c.Offset)
	}
	edges, err := in.direct.ListOffsets(ctx, topic, partitions)
	if err != nil {
		return 0, 0, err
	}
	for _, e := range edges {
		left, end = left+e.End-taken[e.Partition], end+e.End
	}
	return left, end, nil
}

// allOf are the partitions of a topic that has so many.
func allOf(count int32) []int32 {
	partitions := make([]int32, count)
	for i := range partitions {
		partitions[i] = int32(i)
	}
	return partitions
}

// captured counts the charges in the gateway's book that captured money by now.
func (in *installation) captured() (n int, err error) {
	file, err := os.Open(in.path(gatewayBook))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot read the gateway's book: %w", err)
	}
	defer file.Close()
	const succeeded = 2
	for charges := bufio.NewScanner(file); charges.Scan(); {
		var c struct {
			Lost         bool
			Status, Then int
			ThenMs       int64
		}
		if err := json.Unmarshal(charges.Bytes(), &c); err != nil {
			return 0, fmt.Errorf("the gateway's book has the line %q: %w", charges.Bytes(), err)
		}
		if c.ThenMs != 0 && c.ThenMs <= time.Now().UnixMilli() {
			c.Status = c.Then
		}
		if !c.Lost && c.Status == succeeded {
			n++
		}
	}
	return n, nil
}

// query asks ClickHouse, directly.
func (in *installation) query(ctx context.Context, sql string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+in.stack.ClickHouseHTTPAddr+"/?query="+url.QueryEscape(sql), nil)
	if err != nil {
		return "", err
	}
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("cannot ask clickhouse: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("clickhouse answered %s to %s: %s", answer.Status, sql, text)
	}
	return strings.TrimSpace(string(text)), err
}
