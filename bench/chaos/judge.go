package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// OracleReport is what the oracle found.
type OracleReport struct {
	Records     int64 `json:"records"`
	Charged     int64 `json:"charged"`
	Accounts    int64 `json:"accounts"`
	Captures    int64 `json:"captures"`
	Differences int64 `json:"differences"`
	// Examples are as the oracle prints them.
	Examples []json.RawMessage `json:"examples"`
}

// VerifyReport is what `tollgate verify` found.
type VerifyReport struct {
	Entries     int64    `json:"entries"`
	Rows        int64    `json:"rows"`
	Accounts    int64    `json:"accounts"`
	Records     int64    `json:"records"`
	Differences int64    `json:"differences"`
	Examples    []string `json:"examples"`
	Notes       []string `json:"notes"`
}

// nestedTransaction is what Redis logs when the tail of its file, from before it was cut, begins a transaction that the
// first one after the cut completes.
const nestedTransaction = "MULTI calls can not be nested"

// judge asks everyone who can tell whether all is right.
func (in *installation) judge(ctx context.Context) error {
	began := time.Now()
	if err := in.count(ctx); err != nil {
		return err
	}
	if err := in.askOracle(ctx); err != nil {
		return err
	}
	out, err := in.command(ctx, "verify", "--wait", "1m")
	in.report.Verify = &VerifyReport{}
	if broken := json.Unmarshal(out, in.report.Verify); broken != nil {
		return fmt.Errorf("verify could not be carried out: %w", errors.Join(err, broken))
	}
	for _, s := range in.services {
		s.scrape(ctx)
		in.report.AuditDifferences += int64(s.differences())
		found, err := s.impossible()
		if err != nil {
			return err
		}
		in.report.Impossible = append(in.report.Impossible, found...)
		in.report.EndsByThemselves += s.byItself
	}
	for _, server := range in.pair.servers {
		log, err := os.ReadFile(server.LogFile)
		if err != nil {
			return fmt.Errorf("cannot read the log of %s: %w", server.Part, err)
		}
		in.report.TornTransactions += bytes.Count(log, []byte(nestedTransaction))
	}
	in.report.JudgedSeconds = time.Since(began).Seconds()
	return nil
}

// askOracle runs the oracle, if there is one.
func (in *installation) askOracle(ctx context.Context) error {
	if in.cfg.Oracle == "" {
		return nil
	}
	in.say("asking the oracle")
	cmd := exec.CommandContext(ctx, in.cfg.Oracle, "--kafka", in.stack.KafkaAddr, "--clickhouse", in.stack.ClickHouseAddr,
		"--book", in.path("book.yml"), "--gateway", in.path(gatewayBook), "--credits", in.path(creditsFile), "--json")
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	in.report.Oracle = &OracleReport{}
	if broken := json.Unmarshal(out, in.report.Oracle); broken != nil {
		return fmt.Errorf("the oracle could not be asked: %w: %s", errors.Join(err, broken), bytes.TrimSpace(failure.Bytes()))
	}
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return fmt.Errorf("the oracle could not be asked: %w: %s", err, bytes.TrimSpace(failure.Bytes()))
	}
	return nil
}

// count asks ClickHouse what became of the records.
func (in *installation) count(ctx context.Context) error {
	r := in.report
	for _, f := range in.feeds {
		counts := f.Counts()
		r.Records += int64(counts.Records())
		r.SentAgain += f.SentAgain()
	}
	out, err := in.query(ctx, `SELECT toString(result), count() FROM tollgate.rated_records FINAL WHERE result != 'repeated' GROUP BY 1
		UNION ALL SELECT concat('rejected, ', toString(reason)), count() FROM tollgate.dead_letters FINAL WHERE result = 'rejected' GROUP BY 1`)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		result, text, _ := strings.Cut(strings.TrimSpace(line), "\t")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("clickhouse counts %q: %w", line, err)
		}
		r.Results[result] = n
	}
	if r.Captured, err = in.captured(); err != nil {
		return err
	}
	r.TopUps, r.TopUpsAgain = len(in.cashier.accepted), in.cashier.again
	return nil
}
