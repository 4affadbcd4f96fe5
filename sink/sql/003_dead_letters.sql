-- Records that could not be rated, with their raw bytes: one row a posting of kind rejected.

-- +goose Up
CREATE TABLE IF NOT EXISTS dead_letters
(
    reason_code      UInt8 EPHEMERAL,
    reason           Enum8('unknown' = 0, 'undecodable' = 1, 'no-format' = 2, 'unknown-number' = 3, 'no-price' = 4, 'too-far-ahead' = 5, 'out-of-bounds' = 6) DEFAULT reason_code COMMENT 'why it could not be rated' CODEC(ZSTD(1)),
    raw              String                COMMENT 'the record''s bytes as the carrier sent them; emptied after the time that personal data is kept' CODEC(ZSTD(3)) TTL toDateTime(append_time) + toIntervalDay(396),
    account_id       UInt32                COMMENT 'account, 0 where none is known' CODEC(ZSTD(1)),
    number           UInt64                COMMENT 'number, 0 where none is known' CODEC(T64, ZSTD(1)),
    record_id        String                COMMENT 'the carrier''s id, as far as it could be read' CODEC(ZSTD(1)),
    id_hash          UInt64                COMMENT 'hash of (source name, service kind, record id), or 0' CODEC(ZSTD(1)),
    event_time       DateTime64(3, 'UTC')  COMMENT 'time of the record, as far as it could be read' CODEC(T64, ZSTD(1)),
    statement_day_number Int32 EPHEMERAL,
    statement_day    Date32 DEFAULT toDate32(statement_day_number) COMMENT 'day on which it was decided, UTC' CODEC(T64, ZSTD(1)),
    result_code      UInt8 EPHEMERAL,
    result           Enum8('unknown' = 0, 'repeated' = 1, 'rejected' = 4) DEFAULT result_code COMMENT 'repeated: the same place in the source once more, not a record of its own' CODEC(ZSTD(1)),
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
PARTITION BY toStartOfMonth(statement_day)
ORDER BY (statement_day, shard, entry_offset, ix)
SETTINGS non_replicated_deduplication_window = 0
COMMENT 'records that could not be rated; read with FINAL and result = rejected';
