package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Options say which ClickHouse to use. Zero fields take the defaults that their comments give.
type Options struct {
	// Addrs are host:port of the native protocol. Required.
	Addrs []string
	// Database holds the tables. Default "tollgate".
	Database string
	// User and Password sign in. Default user "default" without a password.
	User, Password string
	// TLS, if set, encrypts every connection.
	TLS *tls.Config
	// Compress names the compression of the wire: "" for none, which is best on one machine, or "lz4" over a network.
	Compress string
	// DialTimeout bounds connecting. Default 5 s.
	DialTimeout time.Duration
	// InsertTimeout bounds one insert. Default 2 minutes.
	InsertTimeout time.Duration
	// MaxConns bounds the connections of one process. Default 8.
	MaxConns int
}

// DefaultDatabase is the database that holds the tables where Options name none.
const DefaultDatabase = "tollgate"

func (o Options) clickhouse() *clickhouse.Options {
	options := &clickhouse.Options{
		Addr: o.Addrs,
		Auth: clickhouse.Auth{Database: o.database(), Username: o.User, Password: o.Password},
		TLS:  o.TLS, DialTimeout: o.DialTimeout, ReadTimeout: o.insertTimeout(), MaxOpenConns: max(o.MaxConns, 0),
		Settings: clickhouse.Settings{
			"async_insert":                                0, // an answer means that the rows are there
			"optimize_on_insert":                          0, // a block has nothing to collapse; looking doubles the cost of an insert
			"insert_deduplicate":                          0, // it can lose rows; ReplacingMergeTree needs none
			"low_cardinality_allow_in_native_format":      0,
			"max_partitions_per_insert_block":             0, // old usage must never block the new
			"do_not_merge_across_partitions_select_final": 1, // keys hold the day, so no key is in two partitions
			"input_format_defaults_for_omitted_fields":    1, // the columns made from the ephemeral ones
		},
	}
	if o.Compress == "lz4" {
		options.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	}
	if options.MaxOpenConns == 0 {
		options.MaxOpenConns = 8
	}
	options.MaxIdleConns = options.MaxOpenConns
	return options
}

func (o Options) database() string {
	if o.Database == "" {
		return DefaultDatabase
	}
	return o.Database
}

func (o Options) insertTimeout() time.Duration {
	if o.InsertTimeout == 0 {
		return 2 * time.Minute
	}
	return o.InsertTimeout
}

// ClickHouse is the Store of production. Several loops may share it.
type ClickHouse struct {
	conn          driver.Conn
	insertTimeout time.Duration
}

// Open prepares a pool of connections; it connects only when it is first used.
func Open(options Options) (*ClickHouse, error) {
	conn, err := clickhouse.Open(options.clickhouse())
	if err != nil {
		return nil, fmt.Errorf("cannot use ClickHouse at %v: %w", options.Addrs, err)
	}
	return &ClickHouse{conn: conn, insertTimeout: options.insertTimeout()}, nil
}

// Conn gives the connections, for the read side.
func (c *ClickHouse) Conn() driver.Conn { return c.conn }

// Close closes the connections.
func (c *ClickHouse) Close() error { return c.conn.Close() }

// Insert writes the rows, each table with one insert, and closings of days with one more at the end. After an error any
// part of them may be there, but no closing without all the rest: insert the same rows again.
func (c *ClickHouse) Insert(ctx context.Context, rows *Rows) error {
	ctx, cancel := context.WithTimeout(ctx, c.insertTimeout)
	defer cancel()
	for i := range rows.tables {
		if err := c.insert(ctx, tableNames[i], tableColumns[i], &rows.tables[i]); err != nil {
			return fmt.Errorf("cannot insert %d rows into %s: %w", rows.tables[i].len(), tableNames[i], err)
		}
	}
	return nil
}

// packetRows is how many rows are sent at a time. The server makes one block of all of them; the client grows its buffers,
// which it makes anew for every insert, only to this size.
const packetRows = 32_768

func (c *ClickHouse) insert(ctx context.Context, table string, columns []column, rows *columnSet) error {
	if rows.len() == 0 {
		return nil
	}
	names := make([]string, len(columns))
	for i := range columns {
		names[i] = columns[i].name
	}
	batch, err := c.conn.PrepareBatch(ctx, fmt.Sprintf("INSERT INTO %s (%s)", table, strings.Join(names, ", ")))
	if err != nil {
		return err
	}
	values := make([]reflect.Value, len(columns))
	for i := range columns {
		values[i] = reflect.ValueOf(columns[i].values(rows))
	}
	for from := 0; from < rows.len(); from += packetRows {
		to := min(from+packetRows, rows.len())
		for i := range values {
			if err := batch.Column(i).Append(values[i].Slice(from, to).Interface()); err != nil {
				return fmt.Errorf("column %s: %w", names[i], errors.Join(err, batch.Abort()))
			}
		}
		if err := batch.Flush(); err != nil {
			return errors.Join(err, batch.Abort())
		}
	}
	return batch.Send()
}

// Account is what the analysts' views need to know of an account.
type Account struct {
	ID          uint32
	Currency    string // ISO 4217
	MinorDigits uint8  // decimals of the currency's minor unit
	Plan        string
	Zone        string // IANA
	Label       string
	// Version is the offset in the book of what is written here; of several rows of an account the highest wins.
	Version int64
}

// WriteAccounts copies accounts of the book into the table accounts. It may be repeated.
func (c *ClickHouse) WriteAccounts(ctx context.Context, accounts []Account) error {
	if len(accounts) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.insertTimeout)
	defer cancel()
	batch, err := c.conn.PrepareBatch(ctx, "INSERT INTO accounts (account_id, currency, minor_digits, plan, zone, label, version)")
	for i := 0; err == nil && i < len(accounts); i++ {
		a := &accounts[i]
		err = batch.Append(a.ID, a.Currency, a.MinorDigits, a.Plan, a.Zone, a.Label, a.Version)
	}
	if err == nil {
		err = batch.Send()
	}
	if err != nil {
		return fmt.Errorf("cannot write %d accounts to ClickHouse: %w", len(accounts), err)
	}
	return nil
}
