package sink

// column names one column of an insert and gives its values. Enumerations and days go as plain numbers into ephemeral
// columns, from which the server makes them: that is several times cheaper than the client's own conversion.
type column struct {
	name   string
	values func(*columnSet) any
}

// placeColumns say where a posting came from and where it stands in the log: every table has them.
var placeColumns = []column{
	{"source_topic", func(c *columnSet) any { return c.sourceTopic }},
	{"source_partition", func(c *columnSet) any { return c.sourcePartition }},
	{"source_offset", func(c *columnSet) any { return c.sourceOffset }},
	{"source_ix", func(c *columnSet) any { return c.sourceIx }},
	{"shard", func(c *columnSet) any { return c.shard }},
	{"entry_offset", func(c *columnSet) any { return c.entryOffset }},
	{"ix", func(c *columnSet) any { return c.ix }},
	{"append_time", func(c *columnSet) any { return c.appendMs }},
	{"account_id", func(c *columnSet) any { return c.account }},
	{"number", func(c *columnSet) any { return c.number }},
	{"id_hash", func(c *columnSet) any { return c.idHash }},
	{"event_time", func(c *columnSet) any { return c.eventMs }},
	{"statement_day_number", func(c *columnSet) any { return c.statementDay }},
	{"result_code", func(c *columnSet) any { return c.result }},
}

// moneyColumns say what a posting did to the account.
var moneyColumns = []column{
	{"kind_code", func(c *columnSet) any { return c.kind }},
	{"local_day_number", func(c *columnSet) any { return c.localDay }},
	{"amount_units", func(c *columnSet) any { return c.amountUnits }},
	{"unapplied_units", func(c *columnSet) any { return c.unappliedUnits }},
	{"balance_units", func(c *columnSet) any { return c.balanceUnits }},
	{"intent_units", func(c *columnSet) any { return c.intentUnits }},
	{"flags", func(c *columnSet) any { return c.flags }},
}

// entryColumns are those of account entries.
var entryColumns = join(placeColumns, moneyColumns, []column{
	{"id", func(c *columnSet) any { return c.id }},
	{"note", func(c *columnSet) any { return c.extra }},
	{"arg0", func(c *columnSet) any { return c.args[0] }},
	{"arg1", func(c *columnSet) any { return c.args[1] }},
	{"arg2", func(c *columnSet) any { return c.args[2] }},
	{"arg3", func(c *columnSet) any { return c.args[3] }},
})

// tableColumns are the columns of each table.
var tableColumns = [tableCount][]column{
	ratedRecords: join(placeColumns, moneyColumns, []column{
		{"record_id", func(c *columnSet) any { return c.id }},
		{"peer", func(c *columnSet) any { return c.peer }},
		{"service_code", func(c *columnSet) any { return c.service }},
		{"duration_seconds", func(c *columnSet) any { return c.durationSeconds }},
		{"billed", func(c *columnSet) any { return c.billed }},
		{"tariff", func(c *columnSet) any { return c.tariff }},
		{"tariff_row", func(c *columnSet) any { return c.tariffRow }},
	}),
	accountEntries: entryColumns,
	closings:       entryColumns,
	deadLetters: join(placeColumns, []column{
		{"record_id", func(c *columnSet) any { return c.id }},
		{"raw", func(c *columnSet) any { return c.extra }},
		{"reason_code", func(c *columnSet) any { return c.reason }},
	}),
}

func join(parts ...[]column) []column {
	var all []column
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}
