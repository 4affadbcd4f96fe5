package book

import (
	"bytes"
	"strings"
)

// What a record begins with that plainRecord reads.
const (
	plainAssign  = `{"v":1,"kind":"assign","id":`
	plainAccount = `{"v":1,"kind":"account","id":`
)

// plainRecord reads the two kinds that a book is mostly made of, accounts and numbers, in just the form in which Encode
// writes them when no wish and no letter outside ASCII is in them. It gives nil for everything else, and what it gives
// is what the strict decoder would give (a fuzz test says so): it is only faster, since a process reads its whole book
// before it does anything.
func plainRecord(value []byte) Record {
	switch {
	case bytes.HasPrefix(value, []byte(plainAssign)):
		p := plain{rest: string(value[len(plainAssign):])} // the only copy: the record's strings are parts of it
		if r := p.assign(); p.ended() {
			return r
		}
	case bytes.HasPrefix(value, []byte(plainAccount)):
		p := plain{rest: string(value[len(plainAccount):])}
		if r := p.account(); p.ended() {
			return r
		}
	}
	return nil
}

// plain reads an object front to back that is written in one way only. After something else it is broken.
type plain struct {
	rest   string
	broken bool
}

func (p *plain) assign() *AssignNumber {
	r := AssignNumber{Header: Header{Version: 1, Kind: "assign", ID: p.text()}}
	p.key("number")
	r.Number = p.text()
	p.key("account")
	r.Account = p.number()
	return &r
}

func (p *plain) account() *OpenAccount {
	r := OpenAccount{Header: Header{Version: 1, Kind: "account", ID: p.text()}}
	if p.hasKey("account") {
		r.Account = p.number()
	}
	p.key("currency")
	r.Currency = p.text()
	p.key("plan")
	r.Plan = p.text()
	p.key("zone")
	r.Zone = p.text()
	if p.hasKey("threshold") {
		r.Threshold = p.text()
	}
	if p.hasKey("rechargeTo") {
		r.RechargeTo = p.text()
	}
	if p.hasKey("balance") {
		r.Balance = p.text()
	}
	return &r
}

// hasKey takes the key and its colon, if it comes next.
func (p *plain) hasKey(key string) bool {
	n := len(key) + len(`,"":`)
	if len(p.rest) < n || p.rest[:2] != `,"` || p.rest[2:n-2] != key || p.rest[n-2:n] != `":` {
		return false
	}
	p.rest = p.rest[n:]
	return true
}

// key takes the key that must come next.
func (p *plain) key(key string) { p.broken = !p.hasKey(key) || p.broken }

// text takes a string of printable ASCII without escapes.
func (p *plain) text() string {
	if !strings.HasPrefix(p.rest, `"`) {
		p.broken = true
		return ""
	}
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			s := p.rest[1:i]
			p.rest = p.rest[i+1:]
			return s
		case c < ' ', c == '\\', c > '~':
			i = len(p.rest)
		}
	}
	p.broken = true
	return ""
}

// number takes a number of up to nine digits, which is never beyond 32 bits.
func (p *plain) number() (n uint32) {
	i := 0
	for i < len(p.rest) && p.rest[i]-'0' < 10 {
		n = n*10 + uint32(p.rest[i]-'0')
		i++
	}
	p.broken = p.broken || i == 0 || i > 9 || p.rest[0] == '0' && i > 1
	p.rest = p.rest[i:]
	return n
}

// ended tells whether the object ends here, and nothing was amiss.
func (p *plain) ended() bool { return !p.broken && p.rest == "}" }
