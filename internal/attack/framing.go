package attack

import (
	"fmt"
	"io"
	"net"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/standin"
)

// harmless sends bytes of which nothing may come but a refusal, or exactly the
// call c, once.
func (t *T) harmless(what, raw string, c call) {
	t.variants++
	a := t.exchange(t.agent, raw)
	t.noLeak(what, a)
	switch seen := t.up.Take(); {
	case len(seen) > 1:
		t.Errorf("%s: the upstream was sent %d requests", what, len(seen))
	case len(seen) == 1:
		if err := c.sameAs(&seen[0], t.Stand); err != nil {
			t.Errorf("%s: what was sent is not what was asked: %v", what, err)
		}
		t.expect(expected{audit.CallAllowed, c.capability, "", what})
		t.came("sent as it was judged")
	case a.code != "":
		t.came("refused: " + strings.Replace(string(a.code), "http", "invalid_request", 1))
	case a.err != nil:
		t.came("connection closed")
	default:
		t.Errorf("%s: status %d, and nothing was sent", what, a.status)
	}
}

// proxyRequest is a request to the daemon with a head of its own.
func proxyRequest(head, body string) string {
	return "POST " + api.RouteProxy + " HTTP/1.1\r\nHost: aivault\r\nConnection: close\r\nContent-Type: application/json\r\n" + head + "\r\n" + body
}

func framingAttacks() []Attack {
	passes := func(t *T) { t.passes("a call", t.honest().with(func(c *call) { c.method = "POST" }).sending("x")) }
	return []Attack{
		{
			ID: "daemon-lengths", Class: "framing", Title: "two lengths to the daemon: `Content-Length` with `Transfer-Encoding`, twice, as a list, signed, hexadecimal, too long, too short",
			Harm: "One connection's bytes would be read as a call that was never judged.",
			Run: func(t *T) {
				c := t.honest()
				body := c.envelope()
				n := len(body)
				chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", n, body)
				hidden := post(api.RouteProxy, "application/json", c.to("/v1/below/hidden").envelope())
				for _, v := range []struct{ head, body string }{
					{fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n", n), chunk},
					{fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: %d\r\n", len(chunk)), chunk},
					{fmt.Sprintf("Content-Length: %d\r\nContent-Length: %d\r\n", n, n+1), body + " "},
					{fmt.Sprintf("Content-Length: %d\r\nContent-Length: 0\r\n", n), body},
					{fmt.Sprintf("Content-Length: %d, %d\r\n", n, n), body},
					{fmt.Sprintf("Content-Length: +%d\r\n", n), body},
					{fmt.Sprintf("Content-Length: 0x%x\r\n", n), body},
					{fmt.Sprintf("Content-Length: -%d\r\n", n), body},
					{fmt.Sprintf("Content-Length : %d\r\n", n), body},
					{"Content-Length: 99999999999999999999\r\n", body},
					{"Content-Length: \r\n", body},
					{fmt.Sprintf("Content-Length: %d\r\n", n-1), body},
					{"Transfer-Encoding: chunked, identity\r\n", chunk},
					{"Transfer-Encoding: identity\r\n", body},
					{"Transfer-Encoding: xchunked\r\n", chunk},
					{"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunk},
					{"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", chunk},
					{"Transfer-Encoding:\x0bchunked\r\n", chunk},
					{"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x;ext=\"\r\n%s\r\n0\r\n\r\n", n, body)},
					{"Transfer-Encoding: chunked\r\n", fmt.Sprintf("-%x\r\n%s\r\n0\r\n\r\n", n, body)},
					{"Transfer-Encoding: chunked\r\n", fmt.Sprintf("0x%x\r\n%s\r\n0\r\n\r\n", n, body)},
					{"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\n%s\n0\n\n", n, body)},
					{"Transfer-Encoding: chunked\r\n", fmt.Sprintf("ffffffffffffffff%x\r\n%s\r\n0\r\n\r\n", n, body)},
					{"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s", n, body)}, // and no end
				} {
					t.harmless(fmt.Sprintf("%q", v.head), proxyRequest(v.head, v.body), c)
				}
				// A second request behind the first, on one connection: it is a
				// call of its own or nothing, and never a part of the first.
				t.harmless("a request behind the body", proxyRequest("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+hidden), c)
			},
			Twin: passes,
		},
		{
			ID: "daemon-heads", Class: "framing", Title: "broken request lines and headers to the daemon: bare LF, folded lines, NUL, blanks before the colon, other versions, HTTP/2 and WebSocket openings, trailers, expectations",
			Harm: "A head that two readers read differently would carry something past one of them.",
			Run: func(t *T) {
				c := t.honest()
				body := c.envelope()
				length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
				whole := proxyRequest(length, body)
				for _, raw := range []string{
					strings.ReplaceAll(strings.Replace(whole, "\r\n\r\n", "\n\n", 1), "\r\n", "\n"),
					proxyRequest("X-A: 1\r\n folded\r\n"+length, body),
					proxyRequest("X-A\x00: 1\r\n"+length, body),
					proxyRequest("X-A: \x00\r\n"+length, body),
					proxyRequest("X-A : 1\r\n"+length, body),
					proxyRequest("no colon\r\n"+length, body),
					proxyRequest(": empty\r\n"+length, body),
					proxyRequest("X-Long: "+strings.Repeat("a", 128<<10)+"\r\n"+length, body),
					proxyRequest("Host: evil.test\r\n"+length, body),
					proxyRequest("Expect: 200-ok\r\n"+length, body),
					proxyRequest("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"+length, body),
					proxyRequest("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"+length, body),
					proxyRequest("Content-Encoding: gzip\r\n"+fmt.Sprintf("Content-Length: %d\r\n", len(gzipped(body))), gzipped(body)),
					proxyRequest("Content-Type: text/plain\r\n"+length, body),
					proxyRequest("Transfer-Encoding: chunked\r\nTrailer: X-A\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\nX-A: 1\r\nContent-Length: 5\r\n\r\n", len(body), body)),
					strings.Replace(whole, "HTTP/1.1", "HTTP/0.9", 1),
					strings.Replace(whole, "HTTP/1.1", "HTTP/2.0", 1),
					strings.Replace(whole, "HTTP/1.1", "http/1.1", 1),
					strings.Replace(whole, "HTTP/1.1", "HTTP/1.1 x", 1),
					strings.Replace(whole, "POST /", "POST  /", 1),
					strings.Replace(whole, "POST "+api.RouteProxy, "POST http://evil.test"+api.RouteProxy, 1),
					strings.Replace(whole, "POST "+api.RouteProxy, "POST "+api.RouteProxy+"?x=1", 1),
					strings.Replace(whole, "POST "+api.RouteProxy, "POST "+api.RouteProxy+"/../audit", 1),
					strings.Replace(whole, "POST "+api.RouteProxy, "POST /aivault/%70roxy/", 1),
					strings.Replace(whole, "POST", "post", 1),
					strings.Replace(whole, "POST", "PUT", 1),
					"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
					"\x16\x03\x01\x00\x05hello\r\n\r\n",
					"GET / HTTP/1.1\r\n\r\n",
				} {
					t.harmless(fmt.Sprintf("%q", clip(raw)), raw, c)
				}
			},
			Twin: passes,
		},
		{
			ID: "parts", Class: "framing", Title: "a call in parts: other names, orders and numbers of parts, two bodies, CR and LF in names and boundaries, text behind the last boundary, lengths that lie",
			Harm: "The body that a policy read would not be the one that is sent, or something behind it would be sent, too.",
			Run:  partAttacks,
			Twin: func(t *T) {
				c := t.honest().with(func(c *call) { c.method = "POST" })
				body := "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\r\nX-Evil: 1\"\r\n\r\n\x00\xff\r\n--x--"
				raw := inParts("b", []part{{`form-data; name="envelope"`, "", c.envelope()}, {`form-data; name="body"`, fmt.Sprintf("Content-Length: %d\r\n", len(body)), body}}, "")
				a := t.exchange(t.agent, raw)
				t.arrived("twin: a body in a part, line ends and file names in it", c.sending(body))
				if a.status != 200 || a.code != "" {
					t.Errorf("twin: status %d %s %s", a.status, a.code, a.message)
					return
				}
				t.twins++
			},
		},
		{
			ID: "smuggled-body", Class: "framing", Title: "bodies that look like requests, chunks and multipart of their own, and that end in the middle of a line",
			Harm: "The upstream would read the end of one call's body as the next call, with our credential on it.",
			Run: func(t *T) {
				t.up.Answer(standin.Whole("ok")) // keeps the connection: a second request would be read
				for _, body := range []string{
					"0\r\n\r\nGET /admin HTTP/1.1\r\nHost: evil.test\r\n\r\n", "\r\n\r\nGET /admin HTTP/1.1\r\n\r\n", "GET /admin HTTP/1.1\r\nHost: x\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "--b\r\nContent-Disposition: form-data; name=\"a\"; filename=\"x\r\nContent-Length: 0\r\n\r\n\"\r\n\r\n--b--",
					"\x00", "\r", "\n", "\r\n", "", " ", "\ufeff", strings.Repeat("0\r\n\r\n", 1000), "POST /v1/exact HTTP/1.1\r\nContent-Length: 10\r\n\r\nx",
				} {
					for _, method := range []string{"POST", "PUT", "DELETE"} {
						t.variants++
						t.reached(fmt.Sprintf("%s %+q", method, clip(body)), t.honest().with(func(c *call) { c.method = method }).sending(body).saying("Content-Type", "multipart/form-data; boundary=b"))
					}
				}
				t.refused("a CR in the boundary", t.honest().with(func(c *call) { c.method = "POST" }).sending("x").saying("Content-Type", "multipart/form-data; boundary=a\r\nX-Evil: 1"))
				t.came("sent as it was judged")
			},
			Twin: passes,
		},
		{
			ID: "upstream-framing", Class: "framing", Title: "answers with two lengths, with lengths that lie, with broken chunks, without an end, of another protocol, after a hundred 1xx, with a head of a MiB",
			Harm: "The broken end of an answer would pass for a whole one, or an answer for another call's.",
			Run: func(t *T) {
				for _, v := range []struct{ what, raw string }{
					{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\nhello"},
					{"a length too long", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"},
					{"a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"},
					{"a broken chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld"},
					{"chunks without an end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"},
					{"an unknown transfer coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello"},
					{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"},
					{"a hundred 1xx", strings.Repeat("HTTP/1.1 102 Processing\r\nX-A: "+strings.Repeat("a", 8<<10)+"\r\n\r\n", 100)},
					{"a head of a MiB", "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n"},
					{"no HTTP", "220 ready\r\n"},
					{"nothing", ""},
					{"a status that is none", "HTTP/1.1 2000 OK\r\n\r\n"},
					{"a head cut in half", "HTTP/1.1 200 OK\r\nContent-Ty"},
					{"a status without an end", "HTTP/1.1 200 " + strings.Repeat("a", 1<<20)},
				} {
					t.variants++
					t.up.Answer(respond(v.raw))
					c := t.honest()
					a := t.Stand.call(c.with(func(c *call) { c.method = "POST" }).sending("x")) // a GET would be tried again by nobody, a POST never
					t.noLeak(v.what, a)
					if seen := t.up.Take(); len(seen) != 1 {
						t.Errorf("%s: %d requests were sent", v.what, len(seen))
					}
					if a.code != api.UpstreamUnreachable && a.code != api.ResponseTooLarge {
						t.Errorf("%s: status %d %q %v, want upstream_unreachable", v.what, a.status, a.code, a.err)
						continue
					}
					t.came("broken off: " + string(a.code))
					t.expect(expected{audit.CallFinished, c.capability, string(a.code), v.what})
				}
			},
			Twin: func(t *T) {
				t.up.Answer(chunked("", "", "hel", "lo"))
				if a := t.passes("chunks", t.honest()); string(a.body) != "hello" {
					t.Errorf("twin: %q", a.body)
				}
				t.up.Answer(keep("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
				if a := t.passes("one 1xx", t.honest()); string(a.body) != "hello" {
					t.Errorf("twin: %q", a.body)
				}
			},
		},
		{
			ID: "early-answers", Class: "framing", Title: "an upstream that answers before it has read the body, and goes on with the connection",
			Harm: "The rest of one caller's body would become the next call's request.",
			Run: func(t *T) {
				t.up.Answer(func(conn net.Conn, _ *standin.Taken) bool {
					_, _ = io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
					return true
				})
				for i := range 8 {
					t.variants++
					c := t.honest().with(func(c *call) { c.method = "POST" }).sending(strings.Repeat("GET /admin HTTP/1.1\r\nHost: x\r\n\r\n", 1<<i*100))
					a := t.Stand.call(c)
					t.noLeak("early", a)
					for _, s := range t.up.Take() {
						if !strings.HasPrefix(string(s.Head), "POST /v1/exact HTTP/1.1\r\n") {
							t.Errorf("the upstream was sent %q", clip(string(s.Head)))
						}
					}
				}
				t.came("sent as it was judged")
			},
			Twin: passes,
		},
	}
}

// part is one part of a call in parts.
type part struct{ disposition, header, body string }

func inParts(boundary string, parts []part, after string) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\r\nContent-Disposition: %s\r\n%s\r\n%s\r\n", boundary, p.disposition, p.header, p.body)
	}
	fmt.Fprintf(&b, "--%s--\r\n%s", boundary, after)
	return post(api.RouteProxy, "multipart/form-data; boundary="+boundary, b.String())
}

func partAttacks(t *T) {
	c := t.honest().to(partial).with(func(c *call) { c.method = "POST" })
	const asEnvelope, asBody = `form-data; name="envelope"`, `form-data; name="body"`
	envelope := part{asEnvelope, "", c.envelope()}
	body := part{asBody, "", "hello"}
	sized := func(n int) part { return part{asBody, fmt.Sprintf("Content-Length: %d\r\n", n), "hello"} }
	two := c.sending("inside")
	for _, v := range []struct {
		what  string
		parts []part
		after string
	}{
		{"no envelope", []part{body}, ""},
		{"no body", []part{envelope}, ""},
		{"the body first", []part{body, envelope}, ""},
		{"two envelopes", []part{envelope, envelope, body}, ""},
		{"two bodies", []part{envelope, body, body}, ""},
		{"a third part", []part{envelope, body, {`form-data; name="more"`, "", "x"}}, ""},
		{"a body in the envelope, too", []part{{asEnvelope, "", two.envelope()}, body}, ""},
		{"text behind the end", []part{envelope, body}, "GET /admin HTTP/1.1\r\n\r\n"},
		{"a length too short", []part{envelope, sized(3)}, ""},
		{"a length too long", []part{envelope, sized(30)}, ""},
		{"a negative length", []part{envelope, sized(-5)}, ""},
		{"two lengths", []part{envelope, {asBody, "Content-Length: 5\r\nContent-Length: 50\r\n", "hello"}}, ""},
		{"a length that is none", []part{envelope, {asBody, "Content-Length: +5\r\n", "hello"}}, ""},
		{"a name with a line end", []part{{"form-data; name=\"envelope\r\nX: 1\"", "", c.envelope()}, body}, ""},
		{"another name", []part{{`form-data; name="Envelope"`, "", c.envelope()}, body}, ""},
		{"two names", []part{{`form-data; name="x"; name="envelope"`, "", c.envelope()}, body}, ""},
		{"an envelope with text behind it", []part{{asEnvelope, "", c.envelope() + "{}"}, body}, ""},
		{"an envelope of two MiB", []part{{asEnvelope, "", c.envelope() + strings.Repeat(" ", 2<<20)}, body}, ""},
	} {
		t.variants++
		a := t.exchange(t.agent, inParts("b", v.parts, v.after))
		t.noLeak(v.what, a)
		if a.code != api.InvalidRequest && a.code != api.RequestTooLarge {
			t.Errorf("%s: status %d %q, want a refusal", v.what, a.status, a.code)
		}
		// A body may be on its way before its end shows that it is wrong.
		t.nothingSent(v.what)
		t.came("refused: " + string(a.code))
	}
	for _, kind := range []string{"multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"a\r\nb\"", "multipart/form-data; boundary=" + strings.Repeat("b", 100), "multipart/mixed; boundary=b", "multipart/form-data; boundary=b; boundary=c"} {
		t.harmless(kind, post(api.RouteProxy, kind, "--b\r\nContent-Disposition: form-data; name=\"envelope\"\r\n\r\n"+c.envelope()+"\r\n--b--\r\n"), c)
	}
}
