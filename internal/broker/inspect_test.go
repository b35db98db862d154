package broker

import (
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
)

// The text of a call that has to be seen takes up memory once more, is counted
// once, and is let go.
func TestTextThatIsSeenIsCounted(t *testing.T) {
	b, text := new(Broker), strings.Repeat("x", 5000)
	p := &plan{call: &api.Call{Request: api.Request{Body: &text}}}
	for range 2 {
		whole, waited, err := b.wholeBody(p, policy.MaxInspected)
		if string(whole) != text || waited || err != nil {
			t.Fatal(len(whole), waited, err)
		}
		if b.bodies.total != 5000 || p.body.held != 5000 {
			t.Fatal(b.bodies.total, p.body.held)
		}
	}
	b.bodies.letGo(p)
	if b.bodies.total != 0 || len(b.bodies.of) != 0 {
		t.Error(b.bodies.total, b.bodies.of)
	}
	b.bodies.total = maxBodies - 4999
	p = &plan{call: p.call}
	if _, _, err := b.wholeBody(p, policy.MaxInspected); api.CodeOf(err) != api.RateLimited || p.body.held != 0 {
		t.Error(err)
	}
}
