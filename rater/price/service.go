package price

import "fmt"

// Service is what a record is charged for: a call or a message, to or from the account's number. Tariff rows
// are written per service. The numbers are stored in the logs and in ClickHouse; they never change meaning.
type Service uint8

// The services.
const (
	// VoiceIn is a call that reached the account's number.
	VoiceIn Service = 1
	// VoiceOut is a call, or a forwarded leg, that the account's number made.
	VoiceOut Service = 2
	// MessageIn is a message that the account's number received.
	MessageIn Service = 3
	// MessageOut is a message that the account's number sent.
	MessageOut Service = 4
)

var serviceNames = [...]string{VoiceIn: "voice-in", VoiceOut: "voice-out", MessageIn: "message-in", MessageOut: "message-out"}

// String gives the name that tariffs, tables and pages use, such as "voice-in".
func (s Service) String() string {
	if s.Valid() {
		return serviceNames[s]
	}
	return fmt.Sprintf("service-%d", uint8(s))
}

// Valid tells whether s is one of the services above.
func (s Service) Valid() bool { return s >= VoiceIn && s <= MessageOut }

// Voice tells whether the service is timed: a call, as opposed to a message.
func (s Service) Voice() bool { return s == VoiceIn || s == VoiceOut }

// Inbound tells whether the account's number was the one called or written to.
func (s Service) Inbound() bool { return s == VoiceIn || s == MessageIn }

// ParseService reads a name as String writes it.
func ParseService(name string) (Service, error) {
	for s := VoiceIn; s <= MessageOut; s++ {
		if serviceNames[s] == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("unknown service %q: use voice-in, voice-out, message-in or message-out", name)
}
