// Package book answers who owned a number, what a record cost and how a topic was written, at any time: it turns the
// book log, the one ordered log of all that is decided once for an installation, into one immutable Book that is
// swapped whole.
//
// A Builder applies the log record by record; Rate prices a decoded carrier record with the Book and makes the entry of
// it. What a Book says of times up to its frontier never changes as the log goes on: every process, at any time, rates
// a record alike. Builder and Book do no I/O and read no clock; only the Follower reads and appends the log. The package
// owns the log's records. It never sees a balance.
package book
