-- What the analysts' views need to know of an account. The book is the truth; this is its copy.

-- +goose Up
CREATE TABLE IF NOT EXISTS accounts
(
    account_id         UInt32                  COMMENT 'account',
    currency           LowCardinality(String)  COMMENT 'ISO 4217',
    minor_digits       UInt8                   COMMENT 'decimals of the currency''s minor unit',
    units_per_currency Int64 MATERIALIZED toInt64(intExp10(minor_digits + 6)) COMMENT 'units of amounts in one whole of the currency: 10^8 for USD',
    plan               LowCardinality(String)  COMMENT 'name of the plan',
    zone               LowCardinality(String)  COMMENT 'IANA time zone',
    label              String                  COMMENT 'name of the account',
    version            Int64                   COMMENT 'offset in the book of what is written here; the highest wins'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY account_id
SETTINGS non_replicated_deduplication_window = 0
COMMENT 'accounts as the book has them; read with FINAL';
