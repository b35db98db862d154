package attack

import (
	"fmt"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
)

// respell returns the spellings of a header's name that careless servers take
// for it.
func respell(name string) []string {
	swapped := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, name)
	all := []string{name, strings.ToLower(name), strings.ToUpper(name), swapped, " " + name, name + " ", name + "\t", name + ":", strings.ReplaceAll(name, "-", "_")}
	if i := strings.IndexByte(name, '-'); i >= 0 {
		all = append(all, name[:i]+"_"+name[i+1:])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func headerAttacks() []Attack {
	bad := []api.Code{api.PolicyViolation, api.InvalidRequest}
	names := func(list ...string) func(*T) {
		return func(t *T) {
			for _, name := range list {
				for _, n := range respell(name) {
					t.refused(fmt.Sprintf("header %+q", n), t.honest().saying(n, "mine"), bad...)
				}
			}
		}
	}
	says := func(lines ...string) func(*T) {
		return func(t *T) {
			c := t.honest()
			for _, l := range lines {
				name, value, _ := strings.Cut(l, ": ")
				c = c.saying(name, value)
			}
			t.passes(strings.Join(lines, ", "), c)
		}
	}
	return []Attack{
		{
			ID: "auth-headers", Class: "header", Title: "every header by which any provider of the registry authenticates, in any case, with blanks, and with `_` for `-`",
			Harm: "A caller would use an account of their own, or make two credentials out of one.",
			Run: func(t *T) {
				all, err := registry.Load()
				t.must(err)
				var list []string
				for _, id := range all.Providers() {
					if s := all.Summary(id); s != nil {
						list = append(list, s.AuthHeaders...)
					}
				}
				slices.Sort(list)
				list = slices.Compact(list)
				if len(list) < 10 {
					t.Fatalf("the registry has %d headers that authenticate", len(list))
				}
				names(list...)(t)
			},
			Twin: says("X-Widget: 1", "Accept: application/json", "User-Agent: tool/1.0"),
		},
		{
			ID: "auth-words", Class: "header", Title: "headers with `auth`, `token`, `secret`, `api-key`, `apikey`, `session`, `signature`, `credential` or `cookie` anywhere in their names",
			Harm: "A provider that nobody knew would be given the caller's own credential.",
			Run: func(t *T) {
				var list []string
				for _, w := range []string{"auth", "token", "secret", "api-key", "apikey", "session", "signature", "credential", "cookie"} {
					list = append(list, w, "X-"+w, "X-My-"+w+"-Id", "My"+w)
				}
				names(append(list, "Authorization", "Cookie", "Set-Cookie", "WWW-Authenticate", "Proxy-Authorization", "X-Amz-Security-Token")...)(t)
			},
			Twin: says("X-Aut: a", "X-Tok: a", "Content-Language: de"),
		},
		{
			ID: "own-auth-header", Class: "header", Title: "the header that this custom provider authenticates with, of a name that says nothing",
			Harm: "The caller's value would stand beside or before the one that aivault adds.",
			Run: func(t *T) {
				c := t.widget()
				for _, n := range respell("X-Widget-Pass") {
					t.refused(fmt.Sprintf("header %+q", n), c.saying(n, "mine"), bad...)
				}
			},
			Twin: func(t *T) { t.passes("another header of that provider", t.widget().saying("X-Widget", "1")) },
		},
		{
			ID: "connection-headers", Class: "header", Title: "`Connection: Authorization` and the other headers of one hop: framing, upgrades, trailers, expectations",
			Harm: "A proxy on the way would drop the credential, read another body, or hand the connection over.",
			Run: func(t *T) {
				for _, l := range []string{"Connection: Authorization", "Connection: close", "Connection: keep-alive, X-A", "Keep-Alive: timeout=1", "TE: trailers", "Trailer: X-A", "Trailers: X-A", "Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Transfer_Encoding: chunked",
					"Content-Length: 0", "Content_Length: 5", "Upgrade: websocket", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Expect: 100-continue", "Max-Forwards: 0", "Alt-Used: evil.test", "Sec-WebSocket-Key: x", "Proxy-Connection: close"} {
					name, value, _ := strings.Cut(l, ": ")
					for _, n := range respell(name) {
						t.refused(fmt.Sprintf("%+q: %s", n, value), t.honest().with(func(c *call) { c.method = "POST" }).sending("x").saying(n, value), bad...)
					}
				}
			},
			Twin: says("Prefer: respond-async", "Cache-Control: no-cache"),
		},
		{
			ID: "routing-headers", Class: "header", Title: "`Host`, `Forwarded`, `X-Forwarded-*`, `X-Original-URL`, `X-Rewrite-URL`, `Proxy-*`, client addresses and their like",
			Harm: "The upstream's own proxy would take another host, path or client than the one that was judged.",
			Run: names("Host", "X-Host", "Forwarded", "X-Forwarded", "X-Forwarded-Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-Anything", "X-Original-URL", "X-Original-Host", "X-Rewrite-URL", "X-Override-URL",
				"X-HTTP-Destinationurl", "X-Proxy-URL", "Proxy", "Proxy-Host", "Proxy-Authenticate", "Via", "X-Real-IP", "X-Client-IP", "Client-IP", "True-Client-IP", "CF-Connecting-IP", "Fastly-Client-IP", "X-Cluster-Client-IP", "X-Originating-IP", "X-Remote-Addr", "Remote-Addr", "X-Remote-User", "X-Envoy-Original-Path", "CDN-Loop"),
			Twin: says("Referer: https://example.test/", "X-Request-Start: 1"),
		},
		{
			ID: "header-bytes", Class: "header", Title: "CR, LF, NUL and every other control byte, DEL and non-ASCII in names and values; folded lines; names that are no token",
			Harm: "One header would become two, or a request of its own.",
			Run: func(t *T) {
				for c := range 0x20 {
					s := string(rune(c))
					t.refused(fmt.Sprintf("name with %+q", s), t.honest().saying("X-A"+s+"b", "1"), bad...)
					t.refused(fmt.Sprintf("name before %+q", s), t.honest().saying(s+"X-A", "1"), bad...)
					if s != "\t" {
						t.refused(fmt.Sprintf("value with %+q", s), t.honest().saying("X-A", "a"+s+"b"), bad...)
						t.refused(fmt.Sprintf("value that ends in %+q", s), t.honest().saying("X-A", "a"+s), bad...)
					}
				}
				for _, v := range []string{"a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\r\n\r\nGET /admin HTTP/1.1\r\nHost: evil.test", "a\r\n b", "a\r\n\tb", "\u560a\u560dX-Evil: 1", "a\u010aX-Evil: 1", "\xff", "a\x7f", "\u00e9", "\u2028X-Evil: 1", "\u0085X"} {
					t.refused(fmt.Sprintf("value %+q", v), t.honest().saying("X-A", v), bad...)
				}
				for _, n := range []string{"", " ", "X A", "X:A", "X-A:", "X(A)", "X\"A", "X/A", "X@A", "X[A]", "X{A}", "X,A", "X;A", "X=A", "X\\A", "\u00e9", "X-\u0391", "X-A\r\nX-Evil", "X-\x7f", ":path", ":authority", strings.Repeat("a", 300)} {
					t.refused(fmt.Sprintf("name %+q", clip(n)), t.honest().saying(n, "1"), bad...)
				}
			},
			Twin: says("X-A: a\tb c~!\"#$%&'()*,/:;<=>?@[]^`{|}", "X!#$%&'*+.^`|~a: 1"),
		},
		{
			ID: "header-twins", Class: "header", Title: "names that differ in `_` and `-` alone, a content type and what authenticates given twice, too many and too long headers",
			Harm: "Of two headers policy would judge one and the upstream take the other.",
			Run: func(t *T) {
				c := t.honest()
				t.refused("X-A and X_A", c.saying("X-A", "1").saying("X_A", "2"), bad...)
				t.refused("X_A alone", c.saying("X_A", "2"), bad...)
				t.refused("Content_Type", c.saying("Content_Type", "text/plain"), bad...)
				t.refused("Authorization twice", c.saying("Authorization", "mine").saying("authorization", "mine"), bad...)
				t.refused("two content types", c.saying("Content-Type", "text/plain").saying("content-type", "application/json"), bad...)
				t.refused("a value of 9 KiB", c.saying("X-A", strings.Repeat("a", 9<<10)), bad...)
				t.refused("200 headers", c.with(func(c *call) {
					for i := range 200 {
						*c = c.saying(fmt.Sprintf("X-A%d", i), "1")
					}
				}), bad...)
				t.refused("20,000 empty headers", c.with(func(c *call) {
					for range 20_000 {
						c.headers = append(c.headers, api.Header{})
					}
				}), bad...)
			},
			Twin: says("X-A: 1", "X-A: 2", "Content-Type: text/plain"),
		},
		{
			ID: "unreadable-answers", Class: "header", Title: "`Accept-Encoding`, ranges, conditions on ranges, and charsets in which ASCII is not what it looks like",
			Harm: "The answer would come in a form, or in parts too short, in which a secret cannot be recognised.",
			Run: func(t *T) {
				for _, l := range []string{"Accept-Encoding: br", "Accept-Encoding: zstd, gzip", "Accept-Encoding: identity", "Accept_Encoding: br", "accept-encoding: *", "Range: bytes=0-3", "Range: bytes=4-7", "Range: lines=1-2", "If-Range: \"x\"", "Request-Range: bytes=0-3", "X-Range: bytes=0-3",
					"Accept-Charset: utf-16", "Accept-Charset: utf-8, utf-16;q=0.1", "Accept: text/plain; charset=utf-16", "Accept: text/html, text/plain;charset=\"UTF-32\"", "Accept-Charset: ibm037", "Accept-Charset: utf-7", "Accept-Charset: *"} {
					name, value, _ := strings.Cut(l, ": ")
					t.refused(l, t.honest().saying(name, value), bad...)
				}
			},
			Twin: says("Accept: text/plain; charset=utf-8", "Accept-Language: de"),
		},
		{
			ID: "product-headers", Class: "header", Title: "aivault's own headers from a caller and from the upstream",
			Harm: "A forged `Aivault-Answer` or `Aivault-Error` would make a refusal look like an answer, or the reverse.",
			Run: func(t *T) {
				names("Aivault-Answer", "Aivault-Api", "Aivault-Planned", "Aivault-Error", "Aivault-Caller", "Aivault-Operator")(t)
				t.up.Answer(keep("HTTP/1.1 200 OK\r\nAivault-Api: 99\r\nAivault-Planned: {}\r\nAivault-Error: internal\r\nAivault-Evil: 1\r\nTrailer: Aivault-Error\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nAivault-Error: internal\r\n\r\n"))
				t.variants++
				a := t.reached("from the upstream", t.honest())
				if a.header.Get("Aivault-Evil") != "" || a.code != "" || a.header.Get(api.HeaderAPI) == "99" || !strings.Contains(a.header.Get(api.HeaderPlanned), "exact") {
					t.Errorf("from the upstream: %v, trailer %v", a.header, a.trailer)
				}
				t.came("not passed on")
			},
			Twin: says("X-Vault: 1"),
		},
	}
}

// widget is an honest call of a provider that authenticates by a header whose
// name gives nothing away.
func (t *T) widget() call {
	_, capability, decoy := t.credential(func(r *api.CredentialCreate) { r.Auth = &api.AuthSpec{Type: "header", HeaderName: "X-Widget-Pass"} })
	return call{capability: capability, method: "GET", path: "/v1/below/x", auth: "X-Widget-Pass: " + decoy}
}
