-- Every carrier record that an account owned, with what became of it: one row a posting of the kinds usage and release.
-- Rows are written again after any doubt, so read with FINAL. The key holds the row's place in the log, which never changes.

-- +goose Up
CREATE TABLE IF NOT EXISTS rated_records
(
    account_id       UInt32                COMMENT 'account that owned the number at the time of the record' CODEC(Delta, ZSTD(1)),
    number           UInt64                COMMENT 'the account''s own number, digits of E.164' CODEC(T64, ZSTD(1)),
    service_code     UInt8 EPHEMERAL,
    service          Enum8('unknown' = 0, 'voice-in' = 1, 'voice-out' = 2, 'message-in' = 3, 'message-out' = 4) DEFAULT service_code COMMENT 'what the record is charged for' CODEC(ZSTD(1)),
    kind_code        UInt8 EPHEMERAL,
    kind             Enum8('unknown' = 0, 'usage' = 1, 'release' = 9) DEFAULT kind_code COMMENT 'usage: as it came; release: decided anew after it was late' CODEC(ZSTD(1)),
    record_id        String                COMMENT 'the carrier''s id of the record, unique only within its source' CODEC(LZ4),
    id_hash          UInt64                COMMENT 'hash of (source name, service kind, record id): equal for copies of one record' CODEC(NONE),
    peer             String                COMMENT 'the other party as the carrier wrote it; emptied after the time that personal data is kept' CODEC(LZ4) TTL toDateTime(append_time) + toIntervalDay(396),
    event_time       DateTime64(3, 'UTC')  COMMENT 'start of the call, or sending of the message' CODEC(T64, ZSTD(1)),
    local_day_number Int32 EPHEMERAL,
    local_day        Date32 DEFAULT toDate32(local_day_number) COMMENT 'day of event_time in the account''s zone' CODEC(T64, ZSTD(1)),
    statement_day_number Int32 EPHEMERAL,
    statement_day    Date32 DEFAULT toDate32(statement_day_number) COMMENT 'day of the statement that shows the row; after local_day for late usage' CODEC(T64, ZSTD(1)),
    duration_seconds UInt32                COMMENT 'stated duration of a call' CODEC(T64, ZSTD(1)),
    billed           UInt32                COMMENT 'billed seconds of a call, or segments of a message' CODEC(T64, ZSTD(1)),
    amount_units     Int64                 COMMENT 'added to the balance, so negative for a charge; 0 unless result is charged' CODEC(ZSTD(1)),
    unapplied_units  Int64                 COMMENT 'what it would have added, where it was not charged' CODEC(ZSTD(1)),
    balance_units    Int64                 COMMENT 'balance of the account after it' CODEC(Delta, ZSTD(1)),
    intent_units     Int64                 COMMENT 'recharge that it decided, or 0' CODEC(ZSTD(1)),
    tariff           UInt32                COMMENT 'version of the tariff that priced it' CODEC(T64, ZSTD(1)),
    tariff_row       UInt32                COMMENT 'row of that tariff' CODEC(T64, ZSTD(1)),
    result_code      UInt8 EPHEMERAL,
    result           Enum8('unknown' = 0, 'repeated' = 1, 'charged' = 2, 'duplicate' = 3, 'late' = 5, 'refused' = 7) DEFAULT result_code COMMENT 'what became of it; repeated: the same place in the source once more, not a record of its own' CODEC(ZSTD(1)),
    flags            UInt8                 COMMENT 'after it: 1 suspended, 2 low; by it: 4 suspended, 8 restored, 16 low, 32 funded, 64 recharge decided, 128 recharge given up' CODEC(ZSTD(1)),
    source_topic     UUID                  COMMENT 'topic id of the carrier topic' CODEC(ZSTD(1)),
    source_partition UInt32                COMMENT 'its partition' CODEC(T64, ZSTD(1)),
    source_offset    Int64                 COMMENT 'offset of the carrier''s message' CODEC(T64, ZSTD(1)),
    source_ix        UInt32                COMMENT 'place of the record in the message, from 0' CODEC(T64, ZSTD(1)),
    shard            UInt16                COMMENT 'partition of entries' CODEC(ZSTD(1)),
    entry_offset     Int64                 COMMENT 'offset of the block in entries' CODEC(T64, ZSTD(1)),
    ix               UInt32                COMMENT 'place of the entry in the block, from 0' CODEC(T64, ZSTD(1)),
    append_time      DateTime64(3, 'UTC')  COMMENT 'when the broker appended the block to entries' CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY statement_day
PRIMARY KEY (account_id, statement_day, event_time)
ORDER BY (account_id, statement_day, event_time, shard, entry_offset, ix)
SETTINGS index_granularity = 8192, non_replicated_deduplication_window = 0,
         min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1
COMMENT 'carrier records and what became of them; read with FINAL, or the view charges';
