package broker

import (
	"io"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/redact"
)

// maxLayers is how often the values that an answer is scrubbed of may become
// more while it streams. Beyond that the answer ends.
const maxLayers = 64

// A later is an answer that goes on being scrubbed of all that must not be in
// it, when that becomes more: a value that was replaced or added while a
// stream runs may be sent by another call, and be repeated in this one. What
// is there already passes through the new values as well, before anybody sees
// it. The old ones go on being looked for.
type later struct {
	broker *Broker
	plan   *plan
	scrub  func(*redact.Set, io.Reader) *redact.Reader
	index  *index // as which the values were looked at
	seen   uint64 // scrubber.changes then
	known  map[uint64]bool

	sets   []*scrubSet      // of the layers; the answer's own is not among them
	layers []*redact.Reader // the last is read
}

// newLater goes on where the reader first looks for what is in set.
func (b *Broker) newLater(p *plan, set *scrubSet, first *redact.Reader, scrub func(*redact.Set, io.Reader) *redact.Reader) *later {
	return &later{broker: b, plan: p, scrub: scrub, index: set.index, seen: set.seen, known: set.prints, layers: []*redact.Reader{first}}
}

// Read implements io.Reader.
func (l *later) Read(p []byte) (int, error) {
	for {
		n, err := l.layers[len(l.layers)-1].Read(p)
		now, seen := l.broker.current.Load(), l.broker.scrub.changes.Load()
		if now == l.index && seen == l.seen || n == 0 && err != nil {
			return n, err
		}
		added, failed := l.look(now, seen, p[:n], err)
		switch {
		case failed != nil:
			clear(p[:n])
			return 0, failed
		case !added:
			return n, err
		}
	}
}

// look compares the values that there are now with those that are looked for.
// Where there are more, it puts a layer over what was read and what follows.
func (l *later) look(now *index, seen uint64, read []byte, end error) (added bool, err error) {
	if now == nil {
		return false, api.Errorf(api.VaultLocked, "the vault was locked during the call")
	}
	set, err := l.broker.scrub.acquire(now, bareHost(l.plan.decision.Host), l.plan.context)
	if err != nil {
		return false, err
	}
	l.index, l.seen = now, seen
	if set.within(l.known) {
		set.release()
		return false, nil
	}
	if len(l.layers) == maxLayers {
		set.release()
		return false, api.Errorf(api.PolicyViolation, "%s: secrets changed too often during the call", l.plan.decision.Host)
	}
	all := make(map[uint64]bool, len(l.known)+len(set.prints))
	for _, prints := range []map[uint64]bool{l.known, set.prints} {
		for print := range prints {
			all[print] = true
		}
	}
	l.known, l.sets = all, append(l.sets, set)
	below := &handedOver{first: append([]byte(nil), read...), end: end, rest: l.layers[len(l.layers)-1]}
	clear(read)
	l.layers = append(l.layers, l.scrub(set.Set, below))
	return true, nil
}

// Redactions is how many values were replaced so far.
func (l *later) Redactions() int {
	n := 0
	for _, r := range l.layers {
		n += r.Redactions()
	}
	return n
}

// release lets go of the sets.
func (l *later) release() {
	for _, set := range l.sets {
		set.release()
	}
	l.sets = nil
}

// A handedOver is what was read already, and then the rest.
type handedOver struct {
	first []byte
	end   error // that came with first
	rest  io.Reader
}

// Read implements io.Reader.
func (h *handedOver) Read(p []byte) (int, error) {
	if len(h.first) > 0 {
		n := copy(p, h.first)
		clear(h.first[:n])
		if h.first = h.first[n:]; len(h.first) > 0 {
			return n, nil
		}
		return n, h.end
	}
	if h.end != nil {
		return 0, h.end
	}
	return h.rest.Read(p)
}
