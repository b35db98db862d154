package attack

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

// A transport is a place of an answer in which a text can travel.
type transport struct {
	name string
	body bool // the text reaches the caller, or what stands in its place
	head bool // it has to be one line of printable text
	act  func(text string) standin.Act
}

func transports() []transport {
	const plain, events = "Content-Type: text/plain\r\n", "Content-Type: text/event-stream\r\n"
	inHeader := func(name string, body bool) transport {
		return transport{"header " + name, body, true, func(s string) standin.Act { return sized("200 OK", name+": "+s+"\r\n", "ok") }}
	}
	packed := func(encoding, body string) standin.Act {
		return sized("200 OK", plain+"Content-Encoding: "+encoding+"\r\n", body)
	}
	return []transport{
		{"body", true, false, func(s string) standin.Act { return sized("200 OK", plain, "before "+s+" after") }},
		{"body alone", true, false, func(s string) standin.Act { return sized("200 OK", plain, s) }},
		{"chunks", true, false, func(s string) standin.Act { return chunked(plain, "", "before ", s, " after") }},
		{"a chunk for each byte", true, false, func(s string) standin.Act { return chunked(plain, "", letters("before "+s+" after")...) }},
		{"body up to the close", true, false, func(s string) standin.Act {
			return respond("HTTP/1.1 200 OK\r\nConnection: close\r\n"+plain+"\r\n", "before "+s+" after")
		}},
		{"json", true, true, func(s string) standin.Act {
			return sized("200 OK", "Content-Type: application/json\r\n", `{"before":"`+s+`","after":1}`)
		}},
		{"binary", true, false, func(s string) standin.Act {
			return sized("200 OK", "Content-Type: application/octet-stream\r\n", "\x00\x01\xff\xfe"+s+"\xff\x00")
		}},
		{"no content type", true, false, func(s string) standin.Act { return sized("200 OK", "", s+s) }},
		{"error page", true, false, func(s string) standin.Act {
			return sized("500 Broken", "Content-Type: text/html\r\n", "<p>before "+s+" after</p>")
		}},
		{"refusal", true, false, func(s string) standin.Act {
			return sized("401 Unauthorized", "WWW-Authenticate: Bearer realm=x\r\n", "before "+s+" after")
		}},
		{"gzip", true, false, func(s string) standin.Act { return packed("gzip", gzipped("before "+s+" after")) }},
		{"x-gzip", true, false, func(s string) standin.Act { return packed("x-gzip", gzipped("before "+s+" after")) }},
		{"deflate", true, false, func(s string) standin.Act { return packed("deflate", zlibbed("before "+s+" after")) }},
		{"raw deflate", true, false, func(s string) standin.Act { return packed("deflate", deflated("before "+s+" after")) }},
		{"event", true, true, func(s string) standin.Act {
			return chunked(events, "", "event: before\n", "data: "+s+"\n\n", "data: after\n\n")
		}},
		{"event, byte by byte", true, true, func(s string) standin.Act { return chunked(events, "", letters("data: "+s+"\n\ndata: after\n\n")...) }},
		inHeader("X-Request-Id", true), inHeader("Retry-After", true), inHeader("X-Ratelimit-Reset", true), inHeader("Cf-Ray", true),
		{"content type", true, true, func(s string) standin.Act { return sized("200 OK", "Content-Type: text/plain; a="+s+"\r\n", "ok") }},
		inHeader("Set-Cookie", false), inHeader("X-Evil", false), inHeader("Authorization", false), inHeader("Etag", false), inHeader("Location", false),
		{"reason", false, true, func(s string) standin.Act { return sized("200 "+s, plain, "ok") }},
		{"reason of a refusal", false, true, func(s string) standin.Act { return sized("403 "+s, plain, "ok") }},
		{"trailer", false, true, func(s string) standin.Act {
			return chunked(plain+"Trailer: X-Trailer, Aivault-Error\r\n", "X-Trailer: "+s+"\r\nAivault-Error: "+s+"\r\n", "ok")
		}},
		{"chunk extension", false, true, func(s string) standin.Act {
			return keep("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=" + s + "\r\nok\r\n0\r\n\r\n")
		}},
		{"early hint", false, true, func(s string) standin.Act {
			return keep("HTTP/1.1 103 Early\r\nLink: <" + s + ">\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}},
		{"broken status", false, true, func(s string) standin.Act { return respond("HTTP/1.1 2x0 " + s + "\r\n\r\n") }},
		{"broken header", false, true, func(s string) standin.Act { return respond("HTTP/1.1 200 OK\r\n" + s + "\r\n\r\n") }},
		{"no HTTP", false, true, func(s string) standin.Act { return respond(s + "\r\n") }},
		{"broken chunk", false, true, func(s string) standin.Act {
			return respond("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + s + "\r\n")
		}},
		{"broken length", false, true, func(s string) standin.Act { return respond("HTTP/1.1 200 OK\r\nContent-Length: " + s + "\r\n\r\nok") }},
		{"unknown encoding", false, true, func(s string) standin.Act { return packed(strings.ReplaceAll(s, ",", ""), "ok") }},
		{"unknown charset", false, true, func(s string) standin.Act {
			return sized("200 OK", "Content-Type: text/plain; charset="+s+"\r\n", "ok")
		}},
		{"behind the answer", false, false, func(s string) standin.Act {
			return respond("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok" + s)
		}},
	}
}

// echoed makes an honest call whose answer repeats a secret, and looks that it
// is not there.
func (t *T) echoed(what string, c call, act standin.Act) answer {
	t.variants++
	t.up.Answer(act)
	a := t.Stand.call(c)
	t.noLeak(what, a)
	if n := len(t.up.Take()); n != 1 {
		t.Errorf("%s: %d requests were sent", what, n)
	}
	if a.err != nil {
		t.Errorf("%s: %v", what, a.err)
	}
	t.expect(expected{audit.CallAllowed, c.capability, "", what})
	return a
}

// scrubbed is echoed for what has to come back with something in the secret's
// place.
func (t *T) scrubbed(what string, c call, act standin.Act) answer {
	a := t.echoed(what, c, act)
	if !bytes.Contains(a.raw, []byte(secret.Redacted)) {
		t.Errorf("%s: nothing stands in the secret's place: status %d %s, body %q, header %v", what, a.status, a.code, clip(string(a.body)), a.header)
	}
	t.came("scrubbed")
	return a
}

func echoAttacks() []Attack {
	// What is as long as the decoy, and no secret.
	honest := func(t *T) string {
		return strings.Map(func(r rune) rune { return r ^ 1 }, "dk-"+strings.Repeat("HonestValue", 5)[:len(t.decoy)-3])
	}
	unchanged := func(t *T, what string, act standin.Act, want string) {
		t.up.Answer(act)
		if a := t.passes(what, t.honest()); string(a.body) != want {
			t.Errorf("twin: %s: %q, want %q", what, clip(string(a.body)), clip(want))
		}
	}
	twin := func(t *T) {
		v := honest(t)
		for _, e := range t.encodings() {
			text := e.write(v)
			unchanged(t, e.name+" of what is no secret", sized("200 OK", "Content-Type: text/plain\r\n", text), text)
		}
	}
	return []Attack{
		{
			ID: "echo", Class: "echo", Title: "the upstream repeats the secret: raw, escaped, base64, hex, and mixtures of these, in the body (sized, in chunks, byte by byte, packed, as events, binary), in headers, the status text, trailers, cookies, hints, error pages and in what is no valid HTTP",
			Harm: "The caller would read the key in an answer.",
			Run: func(t *T) {
				c := t.honest()
				for _, e := range t.encodings() {
					text := e.write(t.decoy)
					for _, tr := range transports() {
						if tr.head && !printable(text) {
							continue
						}
						what := e.name + ", " + tr.name
						switch a := t.echoed(what, c, tr.act(text)); {
						case !tr.body && bytes.Contains(a.raw, []byte(secret.Redacted)):
							t.Errorf("%s: it was passed on, scrubbed: header %v, body %q", what, a.header, clip(string(a.body)))
						case !tr.body:
							t.came("not passed on")
						case bytes.Contains(a.raw, []byte(secret.Redacted)):
							t.came("scrubbed")
						case strings.HasPrefix(tr.name, "header") || tr.name == "content type":
							t.came("not passed on") // too long, once it is written so
						default:
							t.Errorf("%s: nothing stands in the secret's place: status %d %s %q", what, a.status, a.code, clip(string(a.body)))
						}
					}
				}
			},
			Twin: twin,
		},
		{
			Long: true, ID: "echo-splits", Class: "echo", Title: "the secret in every encoding, cut at every offset by the border of a chunk and a TLS record",
			Harm: "A scrubber that looks at one buffer at a time would let both halves pass.",
			Run: func(t *T) {
				for _, e := range t.encodings() {
					text := e.write(t.decoy)
					var parts []string
					for i := 1; i < len(text); i++ {
						parts = append(parts, "<"+text[:i], text[i:]+">")
					}
					a := t.scrubbed(e.name+", chunks", t.honest(), chunked("Content-Type: text/plain\r\n", "", parts...))
					whole := strings.Join(parts, "")
					t.scrubbed(e.name+", records", t.honest(), keep(append([]string{fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(whole))}, parts...)...))
					if n := bytes.Count(a.body, []byte(secret.Redacted)); n != len(text)-1 {
						t.Errorf("%s: %d of %d echoes were replaced", e.name, n, len(text)-1)
					}
				}
			},
			Twin: func(t *T) {
				text := honest(t)
				unchanged(t, "what is no secret, byte by byte", chunked("Content-Type: text/plain\r\n", "", letters(text)...), text)
				t.up.Answer(keep(append([]string{fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(text))}, letters(text)...)...))
				t.passes("in records", t.honest())
			},
		},
		{
			Long: true, ID: "echo-trailer-splits", Class: "echo", Title: "the secret in every encoding, cut at every offset between the end of the body and a trailer, and between two trailers",
			Harm: "What is looked for in the body and in trailers each alone would come in two halves.",
			Run: func(t *T) {
				// As events: whatever its length, the answer goes out with a trailer.
				const head = "Content-Type: text/event-stream\r\nTrailer: X-Rest, X-Request-Id\r\n"
				for _, e := range t.encodings() {
					text := e.write(t.decoy)
					if !printable(text) {
						continue
					}
					for i := 1; i < len(text); i += 1 + len(text)/40 {
						what := fmt.Sprintf("%s, cut at %d", e.name, i)
						t.echoed(what+", two trailers", t.honest(), chunked(head, "X-Rest: "+text[:i]+"\r\nX-Request-Id: "+text[i:]+"\r\n", "ok"))
						// The beginning at the regular end of a body is anyone's. Its
						// rest must not follow.
						t.variants++
						t.up.Answer(chunked(head, "X-Rest: "+text[i:]+"\r\nX-Request-Id: "+text[i:]+"\r\n", "before "+text[:i]))
						a := t.Stand.call(t.honest())
						if n := len(t.up.Take()); n != 1 {
							t.Errorf("%s: %d requests were sent", what, n)
						}
						if bytes.Contains(a.raw, []byte("X-Rest: "+text[i:i+1])) || bytes.Contains(a.raw, []byte("X-Request-Id: "+text[i:i+1])) {
							t.Errorf("%s: the trailer was passed on: %v", what, a.trailer)
						}
						if a.err != nil || a.code != "" {
							t.Errorf("%s: %q %v", what, a.code, a.err)
						}
					}
				}
				t.came("not passed on")
			},
			Twin: func(t *T) {
				unchanged(t, "a body before trailers", chunked("Trailer: X-Rest\r\n", "X-Rest: rest\r\n", "hello"), "hello")
			},
		},
		{
			ID: "echo-packed-splits", Class: "echo", Title: "the secret under gzip and deflate, a TLS record for each byte of the packed text",
			Harm: "What is decompressed piece by piece would be searched piece by piece.",
			Run: func(t *T) {
				for _, e := range t.encodings()[:12] {
					text := strings.Repeat("<"+e.write(t.decoy)+">", 20)
					for name, packed := range map[string]string{"gzip": gzipped(text), "deflate": zlibbed(text)} {
						t.scrubbed(e.name+", "+name, t.honest(), chunked("Content-Encoding: "+name+"\r\n", "", letters(packed)...))
					}
				}
			},
			Twin: func(t *T) {
				text := strings.Repeat(honest(t), 50)
				unchanged(t, "what is no secret, packed", chunked("Content-Encoding: gzip\r\n", "", letters(gzipped(text))...), text)
			},
		},
		{
			ID: "echo-encodings-refused", Class: "echo", Title: "answers as br, zstd, compress, packed twice, with an encoding that is not known or does not fit, with text behind the packed part",
			Harm: "The caller would unpack what aivault could not read.",
			Run: func(t *T) {
				packed := gzipped("before " + t.decoy + " after")
				for what, v := range map[string]struct{ header, body string }{
					"br": {"br", packed}, "zstd": {"zstd", packed}, "compress": {"compress", packed}, "twice": {"gzip, gzip", gzipped(packed)}, "in two lines": {"gzip\r\nContent-Encoding: deflate", packed}, "gzip and br": {"gzip, br", packed}, "unknown": {"x-mine", t.decoy}, "capital": {"BR", packed},
					"gzip that is none": {"gzip", t.decoy}, "deflate that is none": {"deflate", "\xff" + t.decoy}, "cut": {"gzip", packed[:len(packed)-9]}, "text behind": {"gzip", packed + t.decoy}, "two members": {"gzip", packed + "x"}, "dcz": {"dcz", packed}, "aes128gcm": {"aes128gcm", packed},
				} {
					a := t.echoed(what, t.honest(), sized("200 OK", "Content-Encoding: "+v.header+"\r\n", v.body))
					if a.code != api.UpstreamUnreachable {
						t.Errorf("%s: status %d %q, want upstream_unreachable", what, a.status, a.code)
					}
					t.came("broken off: upstream_unreachable")
				}
			},
			Twin: func(t *T) {
				unchanged(t, "gzip as it says", sized("200 OK", "Content-Encoding: gzip\r\n", gzipped("hello")), "hello")
				unchanged(t, "identity", sized("200 OK", "Content-Encoding: identity\r\n", "hello"), "hello")
			},
		},
		{
			ID: "echo-unlabelled", Class: "echo", Title: "a body packed with gzip or zlib that does not say so",
			Harm: "Any tool of the caller's would unpack it and find the key.",
			Run: func(t *T) {
				for what, body := range map[string]string{
					"gzip": gzipped("before " + t.decoy + " after"), "zlib": zlibbed("before " + t.decoy + " after"), "a long one": gzipped(strings.Repeat("filler ", 20_000) + t.decoy),
					"gzip within zlib": zlibbed(gzipped(t.decoy)), "in the second part": gzipped("clean") + gzipped(t.decoy), "over two parts": gzipped("before "+t.decoy[:len(t.decoy)/2]) + gzipped(t.decoy[len(t.decoy)/2:]),
				} {
					for _, kind := range []string{"application/gzip", "application/octet-stream", "text/plain"} {
						for _, in := range []string{"sized", "chunked"} {
							act := sized("200 OK", "Content-Type: "+kind+"\r\n", body)
							if in == "chunked" {
								act = chunked("Content-Type: "+kind+"\r\n", "", letters(body)...)
							}
							a := t.echoed(what+" as "+kind+", "+in, t.honest(), act)
							if a.code == "" {
								t.Errorf("%s as %s, %s: it was not broken off", what, kind, in)
								continue
							}
							t.came("broken off: " + string(a.code))
						}
					}
				}
			},
			Twin: func(t *T) {
				body := gzipped("hello")
				unchanged(t, "a file that is packed", sized("200 OK", "Content-Type: application/gzip\r\n", body), body)
			},
		},
		{
			Long: true, ID: "bombs", Class: "echo", Title: "answers that expand a thousandfold, in one part and in chunks",
			Harm: "A small answer would take all memory, and scrubbing with it.",
			Run: func(t *T) {
				for what, v := range map[string][2]string{"gzip": {"gzip", gzipped(strings.Repeat("\x00", 16<<20))}, "deflate": {"deflate", zlibbed(strings.Repeat("0", 16<<20))}} {
					a := t.echoed(what, t.honest(), sized("200 OK", "Content-Encoding: "+v[0]+"\r\n", v[1]))
					if a.code != api.ResponseTooLarge {
						t.Errorf("%s: status %d %q after %d bytes, want response_too_large", what, a.status, a.code, len(a.body))
					}
					t.came("broken off: " + string(a.code))
				}
			},
			Twin: func(t *T) {
				text := strings.Repeat("many times the same\n", 20_000)
				unchanged(t, "an honest regular answer", sized("200 OK", "Content-Encoding: gzip\r\n", gzipped(text)), text)
			},
		},
		{
			Long: true, ID: "echo-event-lines", Class: "echo", Title: "the secret over two `data:` lines of one event, cut at every offset, with every line end",
			Harm: "The client joins the lines, and has the key.",
			Run: func(t *T) {
				for _, e := range t.encodings() {
					text := e.write(t.decoy)
					if !printable(text) {
						continue
					}
					for _, end := range []string{"\n", "\r\n", "\r"} {
						var events []string
						for i := 1; i < len(text); i++ {
							events = append(events, "data: "+text[:i]+end+"data: "+text[i:]+end+end)
						}
						t.echoed(e.name+fmt.Sprintf(" %q", end), t.honest(), chunked("Content-Type: text/event-stream\r\n", "", events...))
						t.came("scrubbed")
					}
				}
			},
			Twin: func(t *T) {
				text := "data: {\"a\":\ndata: 1}\n\nid: 1\ndata: b\n\n: comment\n\n"
				unchanged(t, "events of several lines", chunked("Content-Type: text/event-stream\r\n", "", letters(text)...), text)
			},
		},
		{
			ID: "rendered", Class: "echo", Title: "what authenticates as it was rendered: `Basic`, a query parameter, a path prefix, two headers, repeated by the upstream as it received it",
			Harm: "The parts of a credential would come back in the form in which they are sent.",
			Run: func(t *T) {
				all := func(conn net.Conn, r *standin.Taken) bool {
					body := string(r.Head) + string(r.Body)
					return sized("200 OK", "Content-Type: message/http\r\nX-Request-Id: "+strings.SplitN(body, "\r\n", 2)[0]+"\r\n", body)(conn, r)
				}
				for what, auth := range map[string]*api.AuthSpec{
					"basic": {Type: "basic", UsernameTemplate: "user", PasswordTemplate: "{{secret}}"}, "basic user": {Type: "basic", UsernameTemplate: "{{secret}}", PasswordTemplate: "x"}, "query": {Type: "query", ParamName: "site_key"}, "header": {Type: "header", HeaderName: "X-Pass", ValueTemplate: "key={{secret}};v=1"},
					"two headers": {Type: "multi-header", Headers: []api.AuthField{{Name: "X-One", ValueTemplate: "a {{secret}}"}, {Name: "X-Two", ValueTemplate: "{{secret}}"}}}, "two parameters": {Type: "multi-query", Params: []api.AuthField{{Name: "x_one", ValueTemplate: "{{secret}}"}}},
				} {
					_, capability, _ := t.credential(func(r *api.CredentialCreate) { r.Auth = auth })
					t.scrubbed(what, call{capability: capability, method: "POST", path: "/v1/below/x"}, all)
				}
				t.scrubbed("bearer", t.honest(), all)
			},
			Twin: twin,
		},
		{
			ID: "echo-of-others", Class: "echo", Title: "the secret of another credential of the same provider, one that was replaced, and one that was deleted, read back by a later call",
			Harm: "What one call stored at the upstream another would read.",
			Run: func(t *T) {
				id, capability, decoy := t.credential(nil)
				other := t.newDecoy()
				ref, err := t.storeSecret("other", other, "")
				t.must(err)
				second := t.name(Provider)
				t.must(t.makeCredential(api.CredentialCreate{ID: second, Provider: id, SecretRefs: map[string]string{"": ref}, Auth: &api.AuthSpec{Type: "header"}}))
				c := call{capability: capability, credential: id, method: "GET", path: "/v1/below/x"}
				say := func(s string) standin.Act { return sized("200 OK", "", "stored: "+s) }
				t.scrubbed("another credential's", c, say(other))
				t.scrubbed("its own, by another", c.with(func(c *call) { c.credential = second }), say(decoy))
				newer := t.newDecoy()
				t.must(t.operate("POST", api.RouteSecrets+"/"+strings.TrimPrefix(ref, "vault:secret:")+"/rotate", map[string]string{"value": newer}, nil))
				t.scrubbed("the value that was replaced", c, say(other))
				t.scrubbed("the value that took its place", c, say(newer))
				t.must(t.operate("DELETE", api.RouteCredentials+"/"+second, nil, nil))
				t.scrubbed("of a credential that was deleted", c, say(newer))
			},
			Twin: twin,
		},
		{
			ID: "echo-of-later-values", Class: "echo", Title: "a value that is stored while a call runs, sent by another one, and repeated in this one's header, body, or what its body unpacks to",
			Harm: "A call that began early enough would read whatever came after it.",
			Run: func(t *T) {
				id, capability, old := t.credential(nil)
				c := call{capability: capability, credential: id, method: "GET", path: "/v1/below/x"}
				for _, where := range []string{"header", "body", "packed", "next part"} {
					began, later := make(chan struct{}), make(chan string)
					t.up.Answer(func(conn net.Conn, _ *standin.Taken) bool {
						say := func(s string) { _, _ = io.WriteString(conn, s) }
						const head = "HTTP/1.1 200 OK\r\nConnection: close\r\n"
						switch where {
						case "header":
							close(began)
							say(head + "X-Request-Id: " + <-later + "\r\n\r\n")
						case "body":
							say(head + "\r\nbegun ")
							close(began)
							say(<-later)
						default:
							z := gzip.NewWriter(conn)
							say(head + "\r\n")
							_, _ = io.WriteString(z, "begun ")
							_ = z.Flush()
							close(began)
							v := <-later
							if where == "next part" {
								_ = z.Close()
								z.Reset(conn)
							}
							_, _ = io.WriteString(z, v)
							_ = z.Close()
						}
						return false
					})
					t.variants++
					answers := make(chan answer, 1)
					go func() { answers <- t.Stand.call(c) }()
					select {
					case <-began:
					case <-time.After(patience):
						t.Errorf("%s: no request came", where)
						return
					}
					v := t.newDecoy()
					ref, err := t.storeSecret("later", v, "")
					t.must(err)
					t.must(t.makeCredential(api.CredentialCreate{ID: t.name(Provider), Provider: id, SecretRefs: map[string]string{"": ref}, Auth: &api.AuthSpec{Type: "header"}}))
					later <- v + " " + old
					a := <-answers
					t.up.Take()
					t.noLeak(where, a)
					switch {
					case a.err != nil:
						t.Errorf("%s: %v", where, a.err)
					case a.code != "":
						t.came("broken off: " + string(a.code))
					case bytes.Count(a.raw, []byte(secret.Redacted)) != 2:
						t.Errorf("%s: %q", where, clip(string(a.raw)))
					default:
						t.came("scrubbed")
					}
				}
			},
			Twin: twin,
		},
		{
			ID: "issued-tokens", Class: "echo", Title: "a new token in an answer (made by the call, never in the vault), also in an error, as no JSON, and in a part of JSON",
			Harm: "A caller without a key would be given one.",
			Run: func(t *T) {
				id := Provider + "/issues"
				t.must(t.makeCapability(api.CapabilityCreate{ID: id, Methods: []string{"POST"}, Paths: []string{"=/keys"}, IssuesToken: []string{"/token", "/keys/*/value"}}))
				c := call{capability: id, method: "POST", path: "/keys"}
				fresh := t.newDecoy()
				text, err := json.Marshal(fresh)
				t.must(err)
				v := string(text)
				for what, body := range map[string]string{
					"a member": `{"token":` + v + `,"id":7}`, "another spelling of the name": `{"to\u006ben":` + v + `}`, "in a list": `{"keys":[{"value":` + v + `},{"value":` + v + `}]}`, "given twice": `{"token":1,"token":` + v + `}`, "an object": `{"token":{"a":[` + v + `]}}`,
				} {
					for _, status := range []string{"200 OK", "201 Created", "400 Bad"} {
						a := t.echoed(what+", "+status, c, sized(status, "Content-Type: application/json\r\n", body))
						if a.code == "" && !bytes.Contains(a.body, []byte("redacted")) {
							t.Errorf("%s: %q", what, clip(string(a.body)))
						}
						t.came("removed")
					}
				}
				for what, header := range map[string]string{"no JSON": "Content-Type: text/plain\r\n", "no type": "", "a part": "Content-Type: application/json\r\nContent-Range: bytes 0-9/20\r\n"} {
					a := t.echoed(what, c, sized("200 OK", header, `{"token":`+v+`}`))
					if a.code != api.PolicyViolation {
						t.Errorf("%s: status %d %q, want policy_violation", what, a.status, a.code)
					}
					t.came("withheld: policy_violation")
				}
			},
			Twin: func(t *T) {
				body := `{"token_type":"x","id":7}`
				t.up.Answer(sized("200 OK", "Content-Type: application/json\r\n", body))
				a := t.passes("members beside it", call{capability: Provider + "/issues", method: "POST", path: "/keys"})
				if string(a.body) != body {
					t.Errorf("twin: %q", a.body)
				}
			},
		},
		{
			ID: "lengths-and-digests", Class: "echo", Title: "an echo with `Content-Length`, `ETag`, `Digest`, `Content-MD5` and `Content-Range` of the answer before it was scrubbed",
			Harm: "The difference would tell how long the secret is, or confirm a guess of it.",
			Run: func(t *T) {
				body := strings.Repeat("x"+t.decoy, 3)
				a := t.scrubbed("digests", t.honest(), sized("200 OK", "ETag: \"abc\"\r\nDigest: sha-256=abc\r\nContent-Digest: sha-256=:abc:\r\nRepr-Digest: sha-256=:abc:\r\nContent-MD5: abc\r\nContent-Range: bytes 0-1/2\r\nLast-Modified: x\r\n", body))
				for _, name := range []string{"Etag", "Digest", "Content-Digest", "Repr-Digest", "Content-Md5", "Content-Range"} {
					if v := a.header.Get(name); v != "" {
						t.Errorf("%s: %s was passed on", name, v)
					}
				}
				if n := a.header.Get("Content-Length"); n != "" && n != strconv.Itoa(len(a.body)) {
					t.Errorf("length %s of a body of %d bytes", n, len(a.body))
				}
			},
			Twin: func(t *T) {
				t.up.Answer(sized("200 OK", "", "hello"))
				if a := t.passes("an honest length", t.honest()); a.header.Get("Content-Length") != "5" {
					t.Errorf("twin: length %q", a.header.Get("Content-Length"))
				}
			},
		},
		{
			ID: "odd-charsets", Class: "echo", Title: "answers in charsets in which ASCII is not what it looks like: UTF-7, UTF-16, UTF-32, EBCDIC, and two at once",
			Harm: "The caller would decode what the scrubber could not read.",
			Run: func(t *T) {
				for _, charset := range []string{"utf-7", "utf-16", "UTF-16LE", "utf-32", "ibm037", "cp500", "utf-8; charset=utf-16", "\"utf-16\"", "hz-gb-2312", "scsu"} {
					a := t.echoed(charset, t.honest(), sized("200 OK", "Content-Type: text/plain; charset="+charset+"\r\n", t.decoy))
					if a.code != api.UpstreamUnreachable {
						t.Errorf("%s: status %d %q, want upstream_unreachable", charset, a.status, a.code)
					}
					t.came("withheld: upstream_unreachable")
				}
			},
			Twin: func(t *T) {
				unchanged(t, "latin-1", sized("200 OK", "Content-Type: text/plain; charset=iso-8859-1\r\n", "caf\xe9"), "caf\xe9")
			},
		},
		{
			ID: "cut-echo", Class: "echo", Title: "a caller who ends the call in the middle of an echo, and an upstream that breaks off there, at every offset",
			Harm: "A caller who chooses where an answer ends would get the key in halves.",
			Run: func(t *T) {
				for i := windowLen; i < len(t.decoy); i++ {
					t.variants++
					part := t.decoy[:i]
					t.up.Answer(respond("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nbefore " + part))
					a := t.Stand.call(t.honest())
					t.noLeak("broken off by the upstream", a)
					if a.code == "" {
						t.Errorf("broken off after %d bytes: the answer passed for a whole one", i)
					}
				}
				for _, i := range []int{20, 40} {
					t.variants++
					part := t.decoy[:i]
					t.up.Answer(func(conn net.Conn, _ *standin.Taken) bool {
						_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nbefore " + part))
						time.Sleep(700 * time.Millisecond)
						return false
					})
					a := t.Stand.call(t.honest().with(func(c *call) { c.timeoutMs = 300 }))
					t.noLeak("ended by the caller's time limit", a)
					if a.code != api.UpstreamTimeout {
						t.Errorf("ended by the caller's time limit: %q", a.code)
					}
				}
				t.up.Take()
				t.came("withheld")
			},
			Twin: func(t *T) {
				part := t.decoy[:6]
				unchanged(t, "the first letters of it, which are anyone's", sized("200 OK", "", "before "+part), "before "+part)
			},
		},
		{
			ID: "long-echo", Class: "echo", Title: "the secret every few kilobytes of an answer of 4 MiB, in changing encodings",
			Harm: "A scrubber that gives up, or loses its place, would leak late.",
			Run:  func(t *T) { t.longEcho(4 << 20) }, Twin: func(t *T) { t.longHonest(4 << 20) }, Long: true,
		},
		{
			ID: "huge-echo", Class: "echo", Title: "the same in an answer of 50 MiB",
			Harm: "A scrubber that gives up, or loses its place, would leak late.",
			Run:  func(t *T) { t.longEcho(50 << 20) }, Twin: func(t *T) { t.longHonest(50 << 20) }, Full: true, Long: true,
		},
	}
}

func (t *T) longEcho(size int) {
	all := t.encodings()
	var b strings.Builder
	n := 0
	for i := 0; b.Len() < size; i++ {
		b.WriteString(strings.Repeat("an honest line of the answer\n", 100+i%7))
		b.WriteString(all[i%len(all)].write(t.decoy))
		n++
	}
	a := t.scrubbed("a long answer", t.honest(), sized("200 OK", "Content-Type: text/plain\r\n", b.String()))
	if got := bytes.Count(a.body, []byte(secret.Redacted)); got != n {
		t.Errorf("%d of %d echoes were replaced", got, n)
	}
	if got, want := bytes.Count(a.body, []byte("an honest line of the answer\n")), strings.Count(b.String(), "an honest line of the answer\n"); got != want {
		t.Errorf("%d of %d honest lines came", got, want)
	}
}

func (t *T) longHonest(size int) {
	text := strings.Repeat("an honest line of the answer\n", size/29)
	t.up.Answer(sized("200 OK", "Content-Type: text/plain\r\n", text))
	if a := t.passes("a long answer", t.honest()); string(a.body) != text {
		t.Errorf("twin: %d bytes came, want %d", len(a.body), len(text))
	}
}
