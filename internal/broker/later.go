package broker

import (
	"io"
	"maps"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/redact"
)

// maxLayers is how often the values that an answer is scrubbed of may become
// more while it streams. Beyond that the answer ends.
const maxLayers = 64

// A watch knows what must not be in an answer, also when that becomes more: a
// value that was replaced or added while a call runs may be sent by another
// one, and be repeated in this answer.
type watch struct {
	broker *Broker
	plan   *plan
	index  *index // as which the values were looked at
	seen   uint64 // scrubber.changes then
	known  map[uint64]bool
	sets   []*scrubSet // what was added; the call's own is first, and is the caller's
}

func (b *Broker) newWatch(p *plan, set *scrubSet) *watch {
	return &watch{broker: b, plan: p, index: set.index.Load(), seen: set.seen.Load(), known: set.prints, sets: []*scrubSet{set}}
}

// look compares the values that there are now with those that are known, and
// adds a set where there are more.
func (w *watch) look() error {
	now, seen := w.broker.current.Load(), w.broker.scrub.changes.Load()
	if now == w.index && seen == w.seen {
		return nil
	}
	if now == nil {
		return api.Errorf(api.VaultLocked, "the vault was locked during the call")
	}
	host, in := bareHost(w.plan.decision.Host), w.plan.context
	set, err := w.broker.scrub.acquire(now, host, in)
	if err != nil {
		return err
	}
	nothing := set.within(w.known)
	set.release()
	if nothing {
		w.index, w.seen = now, seen
		return nil
	}
	if len(w.sets) > maxLayers {
		return api.Errorf(api.PolicyViolation, "%s: secrets changed too often during the call", w.plan.decision.Host)
	}
	// Not the whole set: streams that run while much changes would hold one
	// each for every change.
	if set, err = w.broker.scrub.acquireMore(now, host, in, w.known); err != nil {
		return err
	}
	all := make(map[uint64]bool, len(w.known)+len(set.prints))
	maps.Copy(all, w.known)
	maps.Copy(all, set.prints)
	w.index, w.seen = now, seen // not before they are looked for
	w.known, w.sets = all, append(w.sets, set)
	return nil
}

// text scrubs a header's value.
func (w *watch) text(v string) (string, int) {
	v, found := w.plan.signed.text(v)
	for _, set := range w.sets {
		clean, n := set.String(v)
		v, found = clean, found+n
	}
	return v, found
}

// release lets go of the sets that were added.
func (w *watch) release() {
	for _, set := range w.sets[1:] {
		set.release()
	}
	w.sets = w.sets[:1]
}

// A later is a text of an answer that goes on being scrubbed of all that its
// watch knows. What is there already passes through the new values as well,
// before anybody sees it. The old ones go on being looked for.
type later struct {
	*watch
	scrub  func(*redact.Set, io.Reader) *redact.Reader
	signed *redact.Reader   // of the call's own signature; nil where it has none
	layers []*redact.Reader // one for each set, so far; the last is read
}

func (w *watch) newLater(text io.Reader, scrub func(*redact.Set, io.Reader) *redact.Reader) *later {
	l := &later{watch: w, scrub: scrub}
	if own := w.plan.signed; own != nil {
		l.signed = scrub(own.Set, text)
		text = l.signed
	}
	l.over(text)
	return l
}

// over puts a layer over text for each set that has none yet.
func (l *later) over(text io.Reader) {
	for _, set := range l.sets[len(l.layers):] {
		r := l.scrub(set.Set, text)
		l.layers, text = append(l.layers, r), r
	}
}

// Read implements io.Reader.
func (l *later) Read(p []byte) (int, error) {
	for {
		top := l.layers[len(l.layers)-1]
		n, err := top.Read(p)
		if n == 0 && err != nil {
			return n, err
		}
		if failed := l.look(); failed != nil {
			clear(p[:n])
			return 0, failed
		}
		if len(l.layers) == len(l.sets) {
			return n, err
		}
		read := &handedOver{first: append([]byte(nil), p[:n]...), end: err, rest: top}
		clear(p[:n])
		l.over(read)
	}
}

// Redactions is how many values were replaced so far.
func (l *later) Redactions() int {
	n := 0
	if l.signed != nil {
		n = l.signed.Redactions()
	}
	for _, r := range l.layers {
		n += r.Redactions()
	}
	return n
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
