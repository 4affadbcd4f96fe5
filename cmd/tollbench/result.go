package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// share is what one process used for each record.
type share struct {
	Process string  `json:"process"`
	Micros  float64 `json:"cpu_micros_per_record"`
}

// result is one measured run.
type result struct {
	Machine   string  `json:"machine"`
	Kafka     string  `json:"kafka"`
	Records   int     `json:"records"`
	Accounts  int     `json:"accounts"`
	Zipf      float64 `json:"zipf"`
	Shards    int     `json:"shards"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"records_per_second"`
	CPU       []share `json:"cpu"`
}

func (r result) sorted() result {
	slices.SortFunc(r.CPU, func(a, b share) int { return cmp.Compare(b.Micros, a.Micros) })
	return r
}

// String is the result in one line.
func (r result) String() string {
	parts := []string{fmt.Sprintf("%.0f records/s", r.PerSecond)}
	for _, s := range r.CPU {
		parts = append(parts, fmt.Sprintf("%s %.2f µs", s.Process, s.Micros))
	}
	return strings.Join(parts, ", ")
}

// table is the result for people.
func (r result) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d records, %d accounts (Zipf %.1f), %d shards, %s Kafka, %s\n", r.Records, r.Accounts, r.Zipf, r.Shards, r.Kafka, r.Machine)
	fmt.Fprintf(&b, "%12.0f records/s end to end, in %.1f s\n", r.PerSecond, r.Seconds)
	total := 0.0
	for _, s := range r.CPU {
		fmt.Fprintf(&b, "%12.2f µs of CPU per record in %s\n", s.Micros, s.Process)
		total += s.Micros
	}
	fmt.Fprintf(&b, "%12.2f µs in all", total)
	return b.String()
}

// proof is what verify took. Its report has the number of entries.
type proof struct {
	Entries    int64              `json:"entries"`
	Seconds    float64            `json:"-"`
	CPUSeconds map[string]float64 `json:"-"` // by process
}

// String is the cost in one line.
func (p proof) String() string {
	parts := []string{fmt.Sprintf("verify: %d entries in %.1f s, %.0f entries/s", p.Entries, p.Seconds, float64(p.Entries)/p.Seconds)}
	total := 0.0
	for _, name := range slices.Sorted(maps.Keys(p.CPUSeconds)) {
		parts = append(parts, fmt.Sprintf("%s %.1f s of CPU", name, p.CPUSeconds[name]))
		total += p.CPUSeconds[name]
	}
	return strings.Join(parts, ", ") + fmt.Sprintf(", %.1f s in all", total)
}
