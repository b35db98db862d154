package broker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/redact"
)

// Bounds of what is passed on of an upstream's header.
const (
	maxHeaderValues = 4
	maxHeaderLength = 1024
)

// passedOn says whether a header of an answer reaches the caller: its content
// type, when to try again, rate limits, and request ids. Everything else can
// carry what the caller must not have: cookies, tokens, locations.
func passedOn(name string) bool {
	switch name {
	case "Content-Type", "Retry-After", "Retry-After-Ms", "Ratelimit", "Ratelimit-Policy",
		"Request-Id", "X-Request-Id", "X-Correlation-Id", "X-Trace-Id",
		"X-Github-Request-Id", "Twilio-Request-Id", "X-Slack-Req-Id", "X-Amzn-Requestid", "X-Amz-Request-Id", "Cf-Ray":
		return true
	}
	for _, prefix := range [...]string{"Ratelimit-", "X-Ratelimit-", "X-Rate-Limit-", "Anthropic-Ratelimit-"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return ofLimits(rest)
		}
	}
	return false
}

// ofLimits says whether the rest of a header's name is made of the words that
// rate limits are told in. A name cannot be scrubbed as a value can, since its
// case is lost on the way: one with any other word in it may be a secret.
func ofLimits(rest string) bool {
	for word := range strings.SplitSeq(rest, "-") {
		if !limitWords[word] && !span(word) {
			return false
		}
	}
	return true
}

// limitWords is a constant table, in the form of canonical header names.
var limitWords = func() map[string]bool {
	words := map[string]bool{}
	for _, w := range strings.Fields(`
		Limit Limits Remaining Reset Used Usage After At Policy Quota Cost Count Burst Max Total
		Request Requests Token Tokens Input Output Cached Prompt Completion Image Images Audio Neurons Credits Points
		Concurrent Concurrency Project Organization Workspace User Account App Api Key Method Resource Bucket Scope Global Shared Model
		Second Seconds Minute Minutes Hour Hours Hourly Day Days Daily Week Weekly Month Monthly Window Time Timestamp Date Interval Period
		Type Name Status State Reason Unified Representative Claim Fallback Percentage Overage Disabled Utilization Threshold Surpassed Retry
		Ms Sec Min Per In Tier Priority Sonnet Opus Haiku Vertex`) {
		words[w] = true
	}
	return words
}()

// span says whether a word is a length of time or a plain small number: 5h,
// 60s, 1.
func span(word string) bool {
	digits := strings.TrimRight(word, "smhdw")
	return len(digits) >= 1 && len(digits) <= 2 && len(word) <= len(digits)+1 && strings.Trim(digits, "0123456789") == ""
}

// passOn picks and scrubs the headers that reach the caller.
func passOn(from http.Header, scrub func(string) (string, int)) (http.Header, int) {
	to := make(http.Header, 4)
	redactions := 0
	for name, values := range from {
		if !passedOn(name) {
			continue
		}
		most := maxHeaderValues
		if name == "Content-Type" {
			most = 1
		}
		for _, v := range values[:min(len(values), most)] {
			clean, n := scrub(v)
			redactions += n
			if len(clean) <= maxHeaderLength && printable(clean) {
				to[name] = append(to[name], clean)
			}
		}
	}
	return to, redactions
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// withoutBlocked is an answer's body without the new tokens that the
// capability's answers carry, and without the members that the policy blocks.
// What is no JSON is refused, before its first byte reaches anyone: nothing
// could be removed from it. That an answer is an error changes nothing.
func (p *plan) withoutBlocked(r *egress.Response, body io.Reader) (io.Reader, error) {
	issued := p.capability.issued
	if issued == nil && !p.limits.BlocksFields() {
		return body, nil
	}
	// A part of a JSON text may be one too: a value without its name.
	whole := r.Status != http.StatusPartialContent && len(r.Header.Values("Content-Range")) == 0
	if given := r.Header.Values("Content-Type"); whole && len(given) == 1 && policy.IsJSON(given[0]) {
		return p.limits.Block(issued.Redact(body)), nil
	}
	switch _, err := io.ReadFull(body, make([]byte, 1)); err {
	case io.EOF:
		return body, nil // nothing is nothing
	case nil:
		if issued != nil {
			return nil, api.Errorf(api.PolicyViolation, "new tokens are removed from the answers of %s, and this answer (status %d) is no JSON, or a part of one: it is withheld", p.capability.id, r.Status).
				WithHint("aivault capability describe %s", p.capability.id)
		}
		return nil, api.Errorf(api.PolicyViolation, "the policy of %s removes fields from answers, and this answer is no JSON, or a part of one", p.capability.id)
	default:
		return nil, err
	}
}

// checkCharset refuses an answer in which a secret could not be recognised,
// because not even ASCII is what it looks like.
func (p *plan) checkCharset(r *egress.Response) error {
	if p.request.Method() == http.MethodHead || r.Status == http.StatusNoContent || r.Status == http.StatusNotModified {
		return nil // nothing follows
	}
	for _, line := range r.Header.Values("Content-Type") {
		if !policy.SameAsASCII(line) { // not named: it is the upstream's text
			return api.Errorf(api.UpstreamUnreachable, "%s: its answer has a charset in which a secret could not be recognised", p.decision.Host)
		}
	}
	return nil
}

// scrubAnswer is an answer's body without the secrets that w knows and the
// call's own signature. A body that is packed and does not say so is looked
// into.
func (w *watch) scrubAnswer(r *egress.Response, body io.Reader) *later {
	scrub := (*redact.Set).Reader
	if given := r.Header.Values("Content-Type"); len(given) == 0 || slices.ContainsFunc(given, isEventStream) {
		scrub = (*redact.Set).Events
	}
	body = redact.Packed(body, func(text io.Reader) redact.Scrubbed { return w.newLater(text, (*redact.Set).Events) })
	return w.newLater(body, scrub)
}

func isEventStream(contentType string) bool {
	return strings.Contains(strings.ToLower(contentType), "event-stream")
}

// packedFailure is the caller's word for why a packed body was broken off, nil
// where err is about something else.
func (p *plan) packedFailure(err error) error {
	switch {
	case errors.Is(err, redact.ErrPackedEcho):
		return api.Errorf(api.PolicyViolation, "%s: a secret is in what its packed answer holds, from which it cannot be removed: the rest is withheld", p.decision.Host)
	case errors.Is(err, redact.ErrBomb):
		return api.Errorf(api.ResponseTooLarge, "%s: its packed answer expands to more than %d times its size", p.decision.Host, redact.MaxRatio)
	case errors.Is(err, redact.ErrUnchecked):
		return api.Errorf(api.UpstreamUnreachable, "%s: its answer is packed in a way that cannot be checked", p.decision.Host)
	}
	return nil
}

// A counter counts what the upstream sent.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// An AnswerBody is the scrubbed body of an answer. The outcome of the call is
// in the audit log before a reader sees its end.
type AnswerBody struct {
	broker     *Broker
	plan       *plan
	ctx        context.Context
	stop       context.CancelFunc
	set        *scrubSet
	response   *egress.Response
	raw        *counter
	scrubbed   *later
	redactions int   // in the header, and what a packed body was broken off for
	most       int64 // of bytes for the caller; -1: any number

	mu    sync.Mutex // held by a Read, so that the set is not wiped under it
	bytes int64
	end   error // what every further Read returns
}

// Read implements io.Reader.
func (a *AnswerBody) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.end != nil {
		return 0, a.end
	}
	n, err := a.next(p)
	if err == nil && a.raw.n == a.response.Length && n < len(p) {
		// The declared length is reached, so that the end is due: an answer
		// that fits one Read is handed on whole, with its end.
		var more int
		more, err = a.next(p[n:])
		n += more
	}
	if err == nil {
		return n, nil
	}
	if err == io.EOF {
		a.finish(outcome{})
		if a.end == nil {
			a.end = io.EOF
		}
	} else {
		if errors.Is(err, redact.ErrPackedEcho) {
			a.redactions++
		}
		a.finish(outcome{err: a.failure(err)})
	}
	return n, a.end
}

// next reads what is clean, as far as the policy lets the answer go. The byte
// that would be one too many is read, and nothing of it is handed on.
func (a *AnswerBody) next(p []byte) (n int, err error) {
	left := a.most - a.bytes
	switch {
	case a.most < 0:
		n, err = a.scrubbed.Read(p)
	case left > 0:
		n, err = a.scrubbed.Read(p[:min(int64(len(p)), left)])
	default:
		if n, err = a.scrubbed.Read(make([]byte, 1)); n > 0 {
			n, err = 0, api.Errorf(api.ResponseTooLarge, "the answer goes on after the %d bytes that %s may have", a.most, a.plan.capability.id)
		}
	}
	a.bytes += int64(n)
	return n, err
}

// Close ends the call, wherever it stands. It may be called while a Read
// waits, which then returns.
func (a *AnswerBody) Close() error { return a.Abandon("closed before its end") }

// Abandon is Close for a reason, which the outcome of the call then has.
func (a *AnswerBody) Abandon(why string) error {
	a.stop()
	err := a.response.Body.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.end != nil {
		return nil
	}
	a.finish(outcome{note: why})
	a.end = errClosed
	return err
}

var errClosed = errors.New("broker: read of a closed answer")

// finish writes the outcome and lets go of everything; called with the lock
// held, once.
func (a *AnswerBody) finish(o outcome) {
	o.status, o.bytes, o.sent = a.response.Status, a.bytes, a.response.SentBytes()
	o.redactions = a.redactions + a.scrubbed.Redactions()
	if err := a.broker.finish(a.plan, o); err != nil {
		a.end = err
	}
	_ = a.response.Body.Close()
	a.stop()
	a.scrubbed.release()
	a.set.release()
}

// failure is what broke the answer off, in words for the caller.
func (a *AnswerBody) failure(err error) error {
	var known *api.Error
	if packed := a.plan.packedFailure(err); packed != nil {
		return packed
	}
	switch err = causeOf(a.ctx, err); {
	case errors.As(err, &known):
		return known
	case a.ctx.Err() != nil:
		return api.Errorf(api.UpstreamUnreachable, "%s: the call was cancelled", a.plan.decision.Host)
	}
	return api.Errorf(api.UpstreamUnreachable, "%s: the answer broke off", a.plan.decision.Host)
}
