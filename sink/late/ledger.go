package late

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// ClickHouse is the Ledger of production: the table rated_records. Several loops may share it. Where the table is
// replicated, the connections must lead to a replica that holds what store was told is written.
type ClickHouse struct {
	conn    driver.Conn
	timeout time.Duration
}

// NewClickHouse reads through the connections; timeout bounds one look-up.
func NewClickHouse(conn driver.Conn, timeout time.Duration) *ClickHouse {
	return &ClickHouse{conn: conn, timeout: timeout}
}

// settings of the look-up: where inserts are made with a quorum, see all of them. The rest ignores it.
var settings = clickhouse.Settings{"select_sequential_consistency": 1}

// Charged asks by the hash alone, as the shard does: a copy with another account or time is still the same record. It
// needs no FINAL, since rows that were inserted again are equal.
func (c *ClickHouse) Charged(ctx context.Context, records []Record) (map[Record]bool, error) {
	if len(records) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	query := []byte("SELECT DISTINCT shard, id_hash FROM rated_records WHERE result = 'charged' AND id_hash IN (")
	for i, record := range records {
		if i > 0 {
			query = append(query, ',')
		}
		query = strconv.AppendUint(query, record.IDHash, 10)
	}
	query = append(query, ')')
	rows, err := c.conn.Query(clickhouse.Context(ctx, clickhouse.WithSettings(settings)), string(query))
	if err != nil {
		return nil, fmt.Errorf("cannot ask ClickHouse what was charged: %w", err)
	}
	defer rows.Close()
	charged := make(map[Record]bool)
	for rows.Next() {
		var shard uint16
		var id uint64
		if err := rows.Scan(&shard, &id); err != nil {
			return nil, fmt.Errorf("cannot read what ClickHouse says was charged: %w", err)
		}
		charged[Record{Shard: int32(shard), IDHash: id}] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read what ClickHouse says was charged: %w", err)
	}
	return charged, nil
}
