package sink

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/pressly/goose/v3"
)

//go:embed sql/*.sql
var migrations embed.FS

// DefaultPersonalDays is how long callers' numbers and the raw bytes of dead letters are kept: 13 months.
const DefaultPersonalDays = 396

// Migrate brings the database that the options name up to date: it makes it if there is none, and applies the numbered
// migrations that it has not seen, each of which may be applied again after a crash. Then it sets how many days callers'
// numbers and raw records are kept (0 means DefaultPersonalDays). That must be longer than the logs are kept: while they
// hold a record, verify compares it with its row.
func Migrate(ctx context.Context, options Options, personalDays int) error {
	if personalDays == 0 {
		personalDays = DefaultPersonalDays
	}
	if personalDays < 1 {
		return fmt.Errorf("cannot keep personal data for %d days: name at least 1", personalDays)
	}
	if err := createDatabase(ctx, options); err != nil {
		return err
	}
	db := clickhouse.OpenDB(options.clickhouse())
	defer db.Close()
	files, err := fs.Sub(migrations, "sql")
	if err != nil {
		return fmt.Errorf("BUG: no migrations in the binary: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectClickHouse, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("cannot prepare the migrations of ClickHouse at %v: %w", options.Addrs, err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("cannot migrate database %s of ClickHouse at %v: %w", options.database(), options.Addrs, err)
	}
	store, err := Open(options)
	if err != nil {
		return err
	}
	defer store.Close()
	return store.keepPersonal(ctx, personalDays)
}

func createDatabase(ctx context.Context, options Options) error {
	name := options.database()
	options.Database = "default"
	store, err := Open(options)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+quoted(name)); err != nil {
		return fmt.Errorf("cannot make database %s of ClickHouse at %v: %w", name, options.Addrs, err)
	}
	return nil
}

// personal are the columns that have a time to live of their own.
var personal = []struct{ table, column string }{{"rated_records", "peer"}, {"dead_letters", "raw"}}

// keepPersonal sets the time to live of the personal columns where it is another.
func (c *ClickHouse) keepPersonal(ctx context.Context, days int) error {
	for _, p := range personal {
		var ddl string
		const read = "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = ?"
		if err := c.conn.QueryRow(ctx, read, p.table).Scan(&ddl); err != nil {
			return fmt.Errorf("cannot read how table %s was made: %w", p.table, err)
		}
		life := fmt.Sprintf("toDateTime(append_time) + toIntervalDay(%d)", days)
		if strings.Contains(ddl, life) {
			continue
		}
		if err := c.conn.Exec(ctx, fmt.Sprintf("ALTER TABLE %s MODIFY COLUMN %s String TTL %s", p.table, p.column, life)); err != nil {
			return fmt.Errorf("cannot keep %s.%s for %d days: %w", p.table, p.column, days, err)
		}
	}
	return nil
}

func quoted(identifier string) string { return "`" + strings.ReplaceAll(identifier, "`", "``") + "`" }
