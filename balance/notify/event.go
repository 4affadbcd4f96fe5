package notify

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

// The types of events. README.md says when each is sent.
const (
	AccountSuspended  = "account.suspended"
	AccountRestored   = "account.restored"
	AccountLowBalance = "account.low-balance"
	AccountFunded     = "account.funded"
	RechargeWanted    = "recharge.wanted"
	RechargeSucceeded = "recharge.succeeded"
	RechargeFailed    = "recharge.failed"
	RechargeGivenUp   = "recharge.given-up"
)

// Types lists every type of event, for metrics.
var Types = []string{AccountSuspended, AccountRestored, AccountLowBalance, AccountFunded,
	RechargeWanted, RechargeSucceeded, RechargeFailed, RechargeGivenUp}

// Event is a CloudEvent 1.0 in its JSON form. The fields are written in this order, so that an event that is sent again
// is the same bytes.
type Event struct {
	SpecVersion string `json:"specversion"`
	// ID is installation/shard/offset/index/type: an event that is sent again has the same.
	ID string `json:"id"`
	// Source is /tollgate/ and the installation.
	Source string `json:"source"`
	Type   string `json:"type"`
	// Subject is the account's number.
	Subject string `json:"subject"`
	// Time is when the broker appended the entry, RFC 3339 in UTC.
	Time            string `json:"time"`
	DataContentType string `json:"datacontenttype"`
	Data            Data   `json:"data"`
}

// Data is what an event says about its account. Money is decimal strings of the account's currency.
type Data struct {
	Account  uint32 `json:"account"`
	Currency string `json:"currency"`
	// Balance is the account's balance after the entry.
	Balance string `json:"balance"`
	// Shard, Offset and Ix are the place of the entry. A receiver of suspensions and restorations keeps, for each
	// account, the one with the greatest (Offset, Ix).
	Shard  int32  `json:"shard"`
	Offset int64  `json:"offset"`
	Ix     uint32 `json:"ix"`
	// Amount is that of the recharge: wanted, or captured.
	Amount string `json:"amount,omitempty"`
	// Intent is the recharge that the event belongs to: shard-offset-index of the entry that decided it.
	Intent string `json:"intent,omitempty"`
	// Attempt is the attempt that succeeded or failed, from 0.
	Attempt *int64 `json:"attempt,omitempty"`
	// Reason says why an attempt failed: "declined" or "authentication-required".
	Reason string `json:"reason,omitempty"`
}

// facts are the flags that make an event.
const facts = posting.BecameSuspended | posting.BecameRestored | posting.BecameLow | posting.BecameFunded |
	posting.OpenedIntent | posting.GaveUp

// speaks tells whether a posting may make an event or a dead letter, by its outcome alone.
func speaks(result posting.Result, flags posting.Flags) bool {
	return flags&facts != 0 || result == posting.Applied || result == posting.Rejected
}

// place is where a posting stands, and for which installation.
type place struct {
	installation string
	shard        int32
	offset       int64
	ix           uint32
	appendMs     int64
}

// describe gives the events of one posting, in the order in which they are sent: what came of a recharge, what that made
// of the account, what recharge that calls for.
func describe(events []Event, at place, e *entry.Entry, o *posting.Outcome, currency money.Currency) []Event {
	base := Data{
		Account: e.Account, Currency: currency.String(), Balance: currency.Format(o.BalanceUnits),
		Shard: at.shard, Offset: at.offset, Ix: at.ix,
	}
	settled := base
	settled.Intent = intentID(at.shard, e.Args[entry.ArgIntentOffset], e.Args[entry.ArgIntentIx])
	settled.Attempt = &e.Args[entry.ArgAttempt]
	applied := o.Result == posting.Applied
	if applied && e.Kind == entry.Payment {
		d := settled
		d.Amount = currency.Format(o.AmountUnits)
		events = append(events, at.event(RechargeSucceeded, d))
	}
	if applied && e.Kind == entry.PaymentFailed {
		d := settled
		d.Reason = failure(e.Args[entry.ArgFailure])
		events = append(events, at.event(RechargeFailed, d))
		if o.Flags&posting.GaveUp != 0 {
			events = append(events, at.event(RechargeGivenUp, d))
		}
	}
	for _, change := range []struct {
		flag posting.Flags
		name string
	}{
		{posting.BecameFunded, AccountFunded}, {posting.BecameLow, AccountLowBalance},
		{posting.BecameRestored, AccountRestored}, {posting.BecameSuspended, AccountSuspended},
	} {
		if o.Flags&change.flag != 0 {
			events = append(events, at.event(change.name, base))
		}
	}
	if o.Flags&posting.OpenedIntent != 0 {
		d := base
		d.Amount = currency.Format(o.IntentUnits)
		d.Intent = intentID(at.shard, at.offset, int64(at.ix))
		events = append(events, at.event(RechargeWanted, d))
	}
	return events
}

func (p place) event(name string, d Data) Event {
	return Event{
		SpecVersion: "1.0", ID: fmt.Sprintf("%s/%d/%d/%d/%s", p.installation, p.shard, p.offset, p.ix, name),
		Source: "/tollgate/" + p.installation, Type: name, Subject: strconv.FormatUint(uint64(d.Account), 10),
		Time:            time.UnixMilli(p.appendMs).UTC().Format("2006-01-02T15:04:05.000Z"),
		DataContentType: "application/json", Data: d,
	}
}

// appendTo appends the event's JSON.
func (e *Event) appendTo(dst []byte) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return dst, fmt.Errorf("cannot write event %s: %w", e.ID, err)
	}
	return append(dst, text...), nil
}

// intentID names a recharge in its installation.
func intentID(shard int32, offset, ix int64) string {
	return fmt.Sprintf("%d-%d-%d", shard, offset, ix)
}

func failure(kind int64) string {
	switch kind {
	case entry.FailureDeclined:
		return "declined"
	case entry.FailureAuthentication:
		return "authentication-required"
	}
	return "unknown"
}
