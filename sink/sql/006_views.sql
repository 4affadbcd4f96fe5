-- What analysts read: all views, in place of those of 005. Amounts are exact decimals of the account's currency, NULL while
-- the account is not in accounts; join_use_nulls is fixed, so that the views mean the same whatever the client has set.
-- A copy that is late for good, because its record was charged, does not wait; and it may be in conflict as any other copy.

-- +goose Up
CREATE OR REPLACE VIEW charges
(
    account_id       UInt32                    COMMENT 'account',
    currency         String                    COMMENT 'ISO 4217',
    number           UInt64                    COMMENT 'the account''s number, digits of E.164',
    service          String                    COMMENT 'voice-in, voice-out, message-in, message-out',
    record_id        String                    COMMENT 'the carrier''s id of the record',
    peer             String                    COMMENT 'the other party, while it is kept',
    event_time       DateTime64(3, 'UTC')      COMMENT 'start of the call, or sending of the message',
    local_day        Date32                    COMMENT 'day of event_time in the account''s zone',
    statement_day    Date32                    COMMENT 'day of the statement that shows it',
    late_usage       Bool                      COMMENT 'came after the statement of its own day was closed',
    duration_seconds UInt32                    COMMENT 'stated duration of a call',
    billed           UInt32                    COMMENT 'billed seconds, or segments of a message',
    charge           Nullable(Decimal(38, 10)) COMMENT 'price, positive',
    balance_after    Nullable(Decimal(38, 10)) COMMENT 'balance of the account after it',
    tariff           UInt32                    COMMENT 'version of the tariff that priced it',
    tariff_row       UInt32                    COMMENT 'row of that tariff',
    shard            UInt16                    COMMENT 'place in the log: partition of entries',
    entry_offset     Int64                     COMMENT 'place in the log: offset of the block',
    ix               UInt32                    COMMENT 'place in the log: index in the block'
) AS
SELECT r.account_id, toString(a.currency) AS currency, r.number, toString(r.service) AS service, r.record_id, r.peer, r.event_time,
       r.local_day, r.statement_day, r.local_day < r.statement_day AS late_usage, r.duration_seconds, r.billed,
       -toDecimal128(r.amount_units, 10) / nullIf(a.units_per_currency, 0) AS charge,
       toDecimal128(r.balance_units, 10) / nullIf(a.units_per_currency, 0) AS balance_after,
       r.tariff, r.tariff_row, r.shard, r.entry_offset, r.ix
FROM rated_records AS r FINAL
LEFT JOIN (SELECT account_id, currency, units_per_currency FROM accounts FINAL) AS a ON r.account_id = a.account_id
WHERE r.result = 'charged'
SETTINGS do_not_merge_across_partitions_select_final = 1, join_use_nulls = 0
COMMENT 'one row for each charged record';

CREATE OR REPLACE VIEW payments
(
    account_id    UInt32                    COMMENT 'account',
    currency      String                    COMMENT 'ISO 4217',
    kind          String                    COMMENT 'payment: by card; credit: by other means; adjustment; account: opening balance; number: fee',
    event_time    DateTime64(3, 'UTC')      COMMENT 'when it happened',
    statement_day Date32                    COMMENT 'day of the statement that shows it',
    amount        Nullable(Decimal(38, 10)) COMMENT 'added to the balance, negative for fees',
    balance_after Nullable(Decimal(38, 10)) COMMENT 'balance of the account after it',
    number        UInt64                    COMMENT 'number that the fee is for, or 0',
    note          String                    COMMENT 'free text',
    id            String                    COMMENT 'idempotency key of the request',
    shard         UInt16                    COMMENT 'place in the log: partition of entries',
    entry_offset  Int64                     COMMENT 'place in the log: offset of the block',
    ix            UInt32                    COMMENT 'place in the log: index in the block'
) AS
SELECT e.account_id, toString(a.currency) AS currency, toString(e.kind) AS kind, e.event_time, e.statement_day,
       toDecimal128(e.amount_units, 10) / nullIf(a.units_per_currency, 0) AS amount,
       toDecimal128(e.balance_units, 10) / nullIf(a.units_per_currency, 0) AS balance_after,
       e.number, e.note, e.id, e.shard, e.entry_offset, e.ix
FROM account_entries AS e FINAL
LEFT JOIN (SELECT account_id, currency, units_per_currency FROM accounts FINAL) AS a ON e.account_id = a.account_id
WHERE e.result = 'applied' AND e.amount_units != 0
SETTINGS do_not_merge_across_partitions_select_final = 1, join_use_nulls = 0
COMMENT 'one row for each payment, credit, adjustment, fee and opening balance';

CREATE OR REPLACE VIEW daily_usage
(
    account_id       UInt32                    COMMENT 'account',
    currency         String                    COMMENT 'ISO 4217',
    statement_day    Date32                    COMMENT 'day of the statement',
    number           UInt64                    COMMENT 'the account''s number, digits of E.164',
    service          String                    COMMENT 'voice-in, voice-out, message-in, message-out',
    records          UInt64                    COMMENT 'charged records',
    duration_seconds UInt64                    COMMENT 'their stated duration',
    billed           UInt64                    COMMENT 'their billed seconds or segments',
    charge           Nullable(Decimal(38, 10)) COMMENT 'sum of their prices, positive'
) AS
SELECT u.account_id, toString(a.currency) AS currency, u.statement_day, u.number, toString(u.service) AS service,
       u.records, u.duration_seconds, u.billed, -toDecimal128(u.amount_units, 10) / nullIf(a.units_per_currency, 0) AS charge
FROM
(
    SELECT account_id, statement_day, number, service, count() AS records, sum(duration_seconds) AS duration_seconds,
           sum(billed) AS billed, sum(amount_units) AS amount_units
    FROM rated_records FINAL
    WHERE result = 'charged'
    GROUP BY account_id, statement_day, number, service
    SETTINGS do_not_merge_across_partitions_select_final = 1
) AS u
LEFT JOIN (SELECT account_id, currency, units_per_currency FROM accounts FINAL) AS a ON u.account_id = a.account_id
SETTINGS join_use_nulls = 0
COMMENT 'charged usage by account, day, number and service';

CREATE OR REPLACE VIEW late_records
(
    account_id      UInt32               COMMENT 'account',
    number          UInt64               COMMENT 'the account''s number, digits of E.164',
    service         String               COMMENT 'voice-in, voice-out, message-in, message-out',
    record_id       String               COMMENT 'the carrier''s id of the record',
    id_hash         UInt64               COMMENT 'hash by which duplicates are found',
    event_time      DateTime64(3, 'UTC') COMMENT 'start of the call, or sending of the message',
    unapplied_units Int64                COMMENT 'what it would add to the balance, in units',
    shard           UInt16               COMMENT 'place in the log: partition of entries',
    entry_offset    Int64                COMMENT 'place in the log: offset of the block',
    ix              UInt32               COMMENT 'place in the log: index in the block',
    append_time     DateTime64(3, 'UTC') COMMENT 'when it was appended to the log'
) AS
SELECT l.account_id, l.number, toString(l.service) AS service, l.record_id, l.id_hash, l.event_time, l.unapplied_units,
       l.shard, l.entry_offset, l.ix, l.append_time
FROM rated_records AS l FINAL
LEFT JOIN
(
    -- Of the ids that were late: whether one copy was charged, and which release of it was the last not to be. Rows that
    -- were inserted again change neither, so this needs no FINAL.
    SELECT shard, id_hash, max(result = 'charged') AS charged, maxIf((entry_offset, ix), result != 'charged') AS decided_at
    FROM rated_records
    WHERE id_hash != 0 AND (result = 'charged' OR kind = 'release' AND result IN ('duplicate', 'refused'))
      AND (shard, id_hash) IN (SELECT shard, id_hash FROM rated_records WHERE result = 'late' AND kind = 'usage')
    GROUP BY shard, id_hash
) AS d ON l.shard = d.shard AND l.id_hash = d.id_hash
WHERE l.result = 'late' AND l.kind = 'usage' AND d.charged = 0 AND (l.entry_offset, l.ix) >= d.decided_at
SETTINGS do_not_merge_across_partitions_select_final = 1, join_use_nulls = 0
COMMENT 'records too old for the window of duplicates that wait for their decision';

CREATE OR REPLACE VIEW conflicts
(
    id_hash     UInt64                                                               COMMENT 'hash by which duplicates are found',
    record_id   String                                                               COMMENT 'the carrier''s id of the record',
    accounts    Array(UInt32)                                                        COMMENT 'accounts of the copies',
    versions    UInt64                                                               COMMENT 'different contents under the one id',
    charged     UInt64                                                               COMMENT 'charged copies: 1, or something is wrong',
    amount_units Int64                                                               COMMENT 'what the charged copies added to the balance',
    newest      DateTime64(3, 'UTC')                                                 COMMENT 'when the newest copy was appended to the log'
) AS
SELECT id_hash, any(record_id) AS record_id, arraySort(groupUniqArray(account_id)) AS accounts,
       uniqExact((account_id, number, service, event_time, duration_seconds, billed)) AS versions, countIf(result = 'charged') AS charged,
       sum(amount_units) AS amount_units, max(append_time) AS newest
FROM rated_records FINAL
WHERE result != 'repeated' AND id_hash != 0
GROUP BY id_hash
HAVING versions > 1 OR charged > 1
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'record ids that came with different contents';
