-- Everything else that befell accounts: one row a posting of the other kinds, except rejected.

-- +goose Up
CREATE TABLE IF NOT EXISTS account_entries
(
    account_id       UInt32                COMMENT 'account, 0 where the entry is for the whole shard' CODEC(Delta, ZSTD(1)),
    kind_code        UInt8 EPHEMERAL,
    kind             Enum8('unknown' = 0, 'account' = 3, 'number' = 4, 'zone' = 5, 'close' = 6, 'param' = 7, 'fold-version' = 8, 'payment' = 10, 'payment-failed' = 11, 'wake' = 12, 'credit' = 13, 'adjustment' = 14, 'settings' = 15) DEFAULT kind_code COMMENT 'what the entry states' CODEC(ZSTD(1)),
    number           UInt64                COMMENT 'number that is assigned or released, or 0' CODEC(T64, ZSTD(1)),
    id               String                COMMENT 'idempotency key of the request, or empty' CODEC(ZSTD(1)),
    id_hash          UInt64                COMMENT 'hash of (principal, idempotency key), or 0' CODEC(ZSTD(1)),
    note             String                COMMENT 'free text, such as the reason of an adjustment' CODEC(ZSTD(1)),
    arg0             Int64                 COMMENT 'account, zone, close: zone; number: 1 assigned, 0 released; param: its number; payment: offset of the intent; credit, adjustment, settings: hash of the request' CODEC(ZSTD(1)),
    arg1             Int64                 COMMENT 'account, settings: threshold in units; close: day since 1970; param: value; payment: ix of the intent' CODEC(ZSTD(1)),
    arg2             Int64                 COMMENT 'account, settings: recharge target in units; payment: attempt, from 0' CODEC(ZSTD(1)),
    arg3             Int64                 COMMENT 'payment-failed: 1 declined, 2 wants the customer' CODEC(ZSTD(1)),
    event_time       DateTime64(3, 'UTC')  COMMENT 'when it happened' CODEC(T64, ZSTD(1)),
    local_day_number Int32 EPHEMERAL,
    local_day        Date32 DEFAULT toDate32(local_day_number) COMMENT 'day of event_time in the account''s zone' CODEC(T64, ZSTD(1)),
    statement_day_number Int32 EPHEMERAL,
    statement_day    Date32 DEFAULT toDate32(statement_day_number) COMMENT 'day of the statement that shows the row' CODEC(T64, ZSTD(1)),
    amount_units     Int64                 COMMENT 'added to the balance' CODEC(ZSTD(1)),
    unapplied_units  Int64                 COMMENT 'what it would have added, had it taken effect' CODEC(ZSTD(1)),
    balance_units    Int64                 COMMENT 'balance of the account after it' CODEC(ZSTD(1)),
    intent_units     Int64                 COMMENT 'recharge that it decided, or 0' CODEC(ZSTD(1)),
    result_code      UInt8 EPHEMERAL,
    result           Enum8('unknown' = 0, 'repeated' = 1, 'duplicate' = 3, 'applied' = 6, 'refused' = 7, 'expired' = 8, 'unmatched' = 9) DEFAULT result_code COMMENT 'what became of it' CODEC(ZSTD(1)),
    flags            UInt8                 COMMENT 'as in rated_records' CODEC(ZSTD(1)),
    source_topic     UUID                  COMMENT 'topic id of the book, or zero' CODEC(ZSTD(1)),
    source_partition UInt32                COMMENT 'its partition' CODEC(T64, ZSTD(1)),
    source_offset    Int64                 COMMENT 'offset in it' CODEC(T64, ZSTD(1)),
    source_ix        UInt32                COMMENT 'place among the entries that the message made' CODEC(T64, ZSTD(1)),
    shard            UInt16                COMMENT 'partition of entries' CODEC(ZSTD(1)),
    entry_offset     Int64                 COMMENT 'offset of the block in entries' CODEC(T64, ZSTD(1)),
    ix               UInt32                COMMENT 'place of the entry in the block, from 0' CODEC(T64, ZSTD(1)),
    append_time      DateTime64(3, 'UTC')  COMMENT 'when the broker appended the block to entries' CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toStartOfMonth(statement_day)
ORDER BY (account_id, statement_day, event_time, shard, entry_offset, ix)
SETTINGS index_granularity = 2048, non_replicated_deduplication_window = 0,
         min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1
COMMENT 'payments, settings and all else that befell accounts; read with FINAL, or the view payments';
