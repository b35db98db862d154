package broker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
)

// A body is what a call sends.
type body struct {
	given egress.Body // beside the text of the call itself
	sent  egress.Body // as it goes out, bounded
	whole []byte      // all of given, once it had to be seen
	begun bool        // given was read from for it
	read  bool        // whole is there
	bytes []byte      // the text of the call, once it had to be seen
	held  int64       // of what inspected bodies may take up in memory
	signs bool        // the login signs it
}

// atHand says whether nobody has to be waited for to see the whole body.
func (b *body) atHand() bool { return b.read || b.given.Reader == nil }

// settle decides what is sent as the body and returns the call's headers,
// completed by a content type for a body that was given as text and is JSON.
func (b *body) settle(r *api.Request) []api.Header {
	switch {
	case b.read:
		b.sent = egress.Body{Reader: bytes.NewReader(b.whole), Length: int64(len(b.whole))}
		return r.Headers
	case b.given.Reader != nil || r.Body == nil:
		b.sent = b.given
		return r.Headers
	}
	text := *r.Body
	b.sent = egress.Body{Reader: strings.NewReader(text), Length: int64(len(text))}
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, "content-type") {
			return r.Headers
		}
	}
	if !policy.LooksLikeJSON(text) {
		return r.Headers
	}
	return append(r.Headers[:len(r.Headers):len(r.Headers)], api.Header{Name: "Content-Type", Value: "application/json"})
}

// checkSize refuses a body of a known length that is too long, and has one of
// unknown length break off at the byte.
func (b *Broker) checkSize(_ context.Context, p *plan) error {
	most := p.limits.MaxRequest()
	switch sent := &p.body.sent; {
	case most < 0:
	case sent.Length > most:
		return tooLarge(p, most)
	case sent.Length < 0 && sent.Reader != nil:
		sent.Reader = &boundedBody{r: sent.Reader, left: most, over: func() error { return tooLarge(p, most) }}
	}
	return nil
}

func tooLarge(p *plan, most int64) error {
	id := p.target.id
	if p.capability != nil {
		id = p.capability.id
	}
	return api.Errorf(api.RequestTooLarge, "%s takes a body of at most %d bytes", id, most)
}

// A boundedBody ends with an error where one more byte would follow.
type boundedBody struct {
	r    io.Reader
	left int64
	over func() error
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		n, err := b.r.Read(make([]byte, 1))
		if n > 0 {
			return 0, b.over()
		}
		return 0, err
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// checkFields shows the body to the policy, where that asks for it. What was
// judged is then what is sent, byte for byte.
func (b *Broker) checkFields(ctx context.Context, p *plan) error {
	if !p.limits.InspectsBody() {
		return nil
	}
	whole, err := b.inspected(ctx, p)
	if err != nil {
		return err
	}
	return p.limits.CheckBody(p.request, whole)
}

// inspected is the whole body of a call whose capability is known. After the
// caller was waited for, the vault is looked at again.
func (b *Broker) inspected(ctx context.Context, p *plan) ([]byte, error) {
	whole, waited, err := b.wholeBody(p, p.limits.MaxInspected())
	if err != nil || !waited {
		return whole, err
	}
	if now, err := b.index(ctx); err != nil || now != p.index || p.expired(b.clock()) {
		return nil, errChanged
	}
	return whole, nil
}

// wholeBody is the body, all of it and at most that many bytes, in memory and
// counted there. waited says that it was taken from the caller just now.
func (b *Broker) wholeBody(p *plan, most int64) (whole []byte, waited bool, err error) {
	if !p.body.atHand() {
		err := b.readBody(p, most)
		return p.body.whole, true, err
	}
	text := p.call.Request.Body
	if p.body.read || text == nil {
		return p.body.whole, false, nil
	}
	if len(*text) > policy.MaxInspected {
		return nil, false, tooLarge(p, policy.MaxInspected)
	}
	if p.body.bytes == nil {
		if err := b.bodies.hold(p, int64(len(*text))); err != nil {
			return nil, false, err
		}
		p.body.bytes = []byte(*text)
	}
	return p.body.bytes, false, nil
}

// expired says whether a grant that permits the call has ended.
func (p *plan) expired(now time.Time) bool {
	return slices.ContainsFunc(p.grants, func(g api.Grant) bool { return g.ExpiresAtMs != 0 && g.ExpiresAtMs <= now.UnixMilli() })
}

// readBody reads the call's body into memory.
func (b *Broker) readBody(p *plan, most int64) error {
	sent := &p.body.sent
	if sent.Length > most {
		return tooLarge(p, most)
	}
	if p.body.begun {
		return asBodyError(io.ErrUnexpectedEOF) // no second half is taken for a whole
	}
	p.body.begun = true
	whole, err := b.readAll(p, sent.Reader, most)
	switch {
	case err != nil:
		return asBodyError(err)
	case sent.Length >= 0 && sent.Length != int64(len(whole)):
		return api.Errorf(api.InvalidRequest, "the request's body has %d bytes, not the %d declared", len(whole), sent.Length)
	}
	p.body.whole, p.body.read = whole, true
	*sent = egress.Body{Reader: bytes.NewReader(whole), Length: int64(len(whole))}
	return nil
}

// readAll reads r to its end, most bytes of it.
func (b *Broker) readAll(p *plan, r io.Reader, most int64) ([]byte, error) {
	var whole []byte
	for size := int64(4 << 10); ; size = min(2*size, most+1) {
		if err := b.bodies.hold(p, size); err != nil {
			return nil, err
		}
		whole = append(make([]byte, 0, size), whole...)
		for len(whole) < cap(whole) {
			n, err := r.Read(whole[len(whole):cap(whole)])
			if whole = whole[:len(whole)+n]; int64(len(whole)) > most {
				return nil, tooLarge(p, most)
			}
			if err == io.EOF {
				return whole, nil
			}
			if err != nil {
				return nil, err
			}
		}
	}
}

// asBodyError is what kept a call's body from being read to its end.
func asBodyError(err error) error {
	var known *api.Error
	if errors.As(err, &known) {
		return known
	}
	return api.Errorf(api.InvalidRequest, "the request's body broke off")
}

// Bounds of the bodies that are in memory to be judged, in bytes.
const (
	maxBodiesOfOne = 64 << 20
	maxBodies      = 256 << 20
	retryBodiesMs  = 1000
)

// bodies bounds the memory that inspected bodies take up: so much of each
// user, so that one who sends many is kept from sending more, and nobody else
// is. Nobody waits: whoever did would hold a connection meanwhile.
type bodies struct {
	mu    sync.Mutex
	total int64
	of    map[uint32]int64
}

// hold is asked before a buffer of size bytes takes the place of p's smaller
// one.
func (s *bodies) hold(p *plan, size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	uid, more := p.caller.UID, size-p.body.held
	if s.of[uid]+more > maxBodiesOfOne || s.total+more > maxBodies {
		e := api.Errorf(api.RateLimited, "the bodies of running calls that have to be read before they are sent, of this user or of all, take up too much memory")
		e.RetryAfterMs = retryBodiesMs
		return e.WithHint("wait for some of these calls to end")
	}
	if s.of == nil {
		s.of = map[uint32]int64{}
	}
	s.of[uid] += more
	s.total += more
	p.body.held = size
	return nil
}

// letGo ends what hold began; once is enough.
func (s *bodies) letGo(p *plan) {
	if p.body.held == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	uid := p.caller.UID
	s.total -= p.body.held
	if s.of[uid] -= p.body.held; s.of[uid] == 0 {
		delete(s.of, uid)
	}
	p.body.held = 0
}
