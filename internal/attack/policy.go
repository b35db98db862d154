package attack

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/standin"
)

// limited makes a capability of its own for a policy.
func (t *T) limited(name string, p api.PolicyChange) call {
	id := Provider + "/" + t.name(name)
	t.must(t.makeCapability(api.CapabilityCreate{ID: id, Methods: []string{"GET", "POST"}, Paths: []string{"/v1/below"}}))
	p.Capability = id
	t.limit(p)
	return call{capability: id, method: "POST", path: "/v1/below/x"}
}

func policyAttacks() []Attack {
	honest := func(t *T) { t.passes("a call", t.honest()) }
	return []Attack{
		{
			ID: "envelope-json", Class: "policy", Title: "an envelope with duplicate and misspelt names, a byte order mark, UTF-16, NUL, invalid UTF-8, deep nesting, text behind it, other JSON types, comments, 25 MiB",
			Harm: "Two readers of one envelope would see two calls.",
			Run: func(t *T) {
				c := t.honest()
				good := c.envelope()
				id := quoteRaw(c.capability)
				deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
				utf16 := func(s string) string {
					var b strings.Builder
					for i := range len(s) {
						b.Write([]byte{s[i], 0})
					}
					return b.String()
				}
				for what, v := range map[string]string{
					"a name twice":           `{"capability":"a/b",` + good[1:],
					"a name twice, escaped":  `{"capabilit\u0079":"a/b",` + good[1:],
					"a name twice, inside":   strings.Replace(good, `"path":`, `"path":"/v1/below/x","path":`, 1),
					"a name in capitals":     strings.Replace(good, `"path"`, `"Path"`, 1),
					"a name in both":         strings.Replace(good, `"path":`, `"Path":"/v1/below","path":`, 1),
					"an unknown name":        `{"x":1,` + good[1:],
					"a byte order mark":      "\ufeff" + good,
					"UTF-16":                 utf16(good),
					"UTF-16 with its mark":   "\xff\xfe" + utf16(good),
					"deep nesting":           `{"x":` + deep + `,` + good[1:],
					"deep nesting alone":     deep,
					"text behind":            good + "x",
					"another object behind":  good + good,
					"NUL behind":             good + "\x00",
					"a list":                 "[" + good + "]",
					"a string":               quoteRaw(good),
					"null":                   "null",
					"nothing":                "",
					"blanks":                 "   ",
					"a comment":              "/**/" + good,
					"a trailing comma":       good[:len(good)-1] + ",}",
					"single quotes":          strings.ReplaceAll(good, `"`, `'`),
					"no UTF-8":               strings.Replace(good, "exact", "\xff", 1),
					"half a surrogate":       strings.Replace(good, "exact", `\ud800`, 1),
					"a number for a text":    `{"capability":1,"request":{}}`,
					"a list for an object":   `{"capability":` + id + `,"request":[]}`,
					"an object for headers":  `{"capability":` + id + `,"request":{"method":"GET","path":"/v1/exact","headers":{"X-A":"1"}}}`,
					"a time limit below 0":   `{"capability":` + id + `,"timeoutMs":-1,"request":{"method":"GET","path":"/v1/exact"}}`,
					"a time limit of years":  `{"capability":` + id + `,"timeoutMs":99999999999,"request":{"method":"GET","path":"/v1/exact"}}`,
					"a fraction":             `{"capability":` + id + `,"timeoutMs":1.5,"request":{"method":"GET","path":"/v1/exact"}}`,
					"an object for the body": `{"capability":` + id + `,"request":{"method":"POST","path":"/v1/exact","body":{}}}`,
				} {
					t.variants++
					t.checkRefusal(what, "", t.exchange(t.agent, post(api.RouteProxy, "application/json", v)), api.InvalidRequest, api.CapabilityNotFound)
				}
				t.variants++
				t.checkRefusal("25 MiB", "", t.exchange(t.agent, post(api.RouteProxy, "application/json", good+strings.Repeat(" ", 25<<20))), api.RequestTooLarge)
			},
			Twin: honest,
		},
		{
			ID: "body-rules", Class: "policy", Title: "a body rule (`model` must be small) against duplicate names, byte order marks, UTF-16, deep nesting, text behind, other types and spellings, forms, packed and missing bodies",
			Harm: "Policy would read one value and the upstream another.",
			Run: func(t *T) {
				c := t.bodyRule()
				for what, body := range map[string]string{
					"another value": `{"model":"large"}`, "no value": `{}`, "twice": `{"model":"small","model":"large"}`, "twice, the right one last": `{"model":"large","model":"small"}`, "twice, escaped": `{"model":"small","mod\u0065l":"large"}`, "in capitals, too": `{"model":"small","Model":"large","model":"small"}`,
					"a byte order mark": "\ufeff" + `{"model":"small"}`, "UTF-16": "\xff\xfe{\x00\"\x00m\x00", "NUL": "{\"model\":\"small\"}\x00", "text behind": `{"model":"small"} x`, "another object behind": `{"model":"small"}{"model":"large"}`, "two lines": "{\"model\":\"small\"}\n{\"model\":\"large\"}",
					"deep nesting": `{"a":` + strings.Repeat("[", 50_000) + strings.Repeat("]", 50_000) + `,"model":"small"}`, "a list": `[{"model":"small"}]`, "a list for the value": `{"model":["small"]}`, "an object for the value": `{"model":{"small":1}}`, "null": `null`, "empty": "", "a string": `"small"`, "a comment": `{/**/"model":"small"}`,
					"a form": "model=small", "invalid UTF-8": "{\"model\":\"small\",\"a\":\"\xff\"}", "half a surrogate": `{"model":"small","a":"\ud800"}`, "capitals": `{"model":"SMALL"}`, "blanks": `{"model":" small"}`, "look-alike": `{"model":"sm\u0430ll"}`, "cut": `{"model":"small"`, "packed": gzipped(`{"model":"small"}`),
				} {
					if what == "invalid UTF-8" || what == "UTF-16" || what == "packed" {
						t.refusedInParts(what, c, body, api.PolicyViolation, api.InvalidRequest)
						continue
					}
					t.refused(what, c.sending(body), api.PolicyViolation, api.InvalidRequest)
				}
				t.refused("no body", c, api.PolicyViolation, api.InvalidRequest)
				t.refused("another content type", c.with(func(c *call) { c.headers = nil }).sending(`{"model":"small"}`).saying("Content-Type", "application/x-www-form-urlencoded"), api.PolicyViolation, api.InvalidRequest)
				t.refused("packed, and says so", c.sending(`{"model":"small"}`).saying("Content-Encoding", "gzip"), api.PolicyViolation, api.InvalidRequest)
				t.refused("another charset", c.with(func(c *call) { c.headers = nil }).sending(`{"model":"small"}`).saying("Content-Type", "application/json; charset=utf-16"), api.PolicyViolation, api.InvalidRequest)
			},
			Twin: func(t *T) {
				c := t.bodyRule()
				t.passes("the right value", c.sending(`{"a":[1,{"model":"large"}],"model":"small"}`))
				t.passes("written with an escape", c.sending(`{"model":"sm\u0061ll"}`))
			},
		},
		{
			ID: "body-sizes", Class: "policy", Title: "bodies one byte and many megabytes over a limit, with and without a length, in the envelope and in parts",
			Harm: "A limit that trusts the declared length is none.",
			Run: func(t *T) {
				c := t.limited("sized", api.PolicyChange{MaxRequestBodyBytes: new(int64(1000))})
				for _, n := range []int{1001, 4000, 100_000, 5 << 20} {
					body := strings.Repeat("a", n)
					t.refused(fmt.Sprintf("%d bytes", n), c.sending(body), api.RequestTooLarge)
					for _, header := range []string{"", "Content-Length: 10\r\n", "Content-Length: 1000\r\n", fmt.Sprintf("Content-Length: %d\r\n", n)} {
						t.variants++
						a := t.exchange(t.agent, inParts("b", []part{{`form-data; name="envelope"`, "", c.to(partial).envelope()}, {`form-data; name="body"`, header, body}}, ""))
						if a.code != api.RequestTooLarge && a.code != api.InvalidRequest {
							t.Errorf("%d bytes in a part with %q: status %d %q", n, header, a.status, a.code)
						}
						t.nothingSent(fmt.Sprintf("%d bytes in a part with %q", n, header))
					}
				}
			},
			Twin: func(t *T) {
				c := t.limited("sized", api.PolicyChange{MaxRequestBodyBytes: new(int64(1000))})
				t.passes("1,000 bytes", c.sending(strings.Repeat("a", 1000)))
			},
		},
		{
			ID: "answer-sizes", Class: "policy", Title: "answers one byte over a limit, endless ones, and packed ones that grow over it",
			Harm: "A limit that counts packed bytes, or trusts a length, is none.",
			Run: func(t *T) {
				c := t.limited("short", api.PolicyChange{MaxResponseBodyBytes: new(int64(1000))})
				for what, act := range map[string]standin.Act{
					"a byte too many": sized("200 OK", "", strings.Repeat("a", 1001)), "in chunks": chunked("", "", strings.Repeat("a", 999), "bc"), "packed": sized("200 OK", "Content-Encoding: gzip\r\n", gzipped(strings.Repeat("abc", 400))), "an error": sized("500 Bad", "", strings.Repeat("a", 2000)),
					"endless": endlessly("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("a", 700), 0),
				} {
					a := t.echoed(what, c, act)
					if a.code != api.ResponseTooLarge || len(a.body) > 1000 && a.trailer != nil && len(a.trailer) > 0 {
						t.Errorf("%s: status %d %q after %d bytes, want response_too_large", what, a.status, a.code, len(a.body))
					}
					t.came("broken off: " + string(a.code))
				}
			},
			Twin: func(t *T) {
				c := t.limited("short", api.PolicyChange{MaxResponseBodyBytes: new(int64(1000))})
				t.up.Answer(sized("200 OK", "", strings.Repeat("a", 1000)))
				t.passes("1,000 bytes", c)
			},
		},
		{
			ID: "blocked-fields", Class: "policy", Title: "a member that a policy removes from answers, spelt with escapes, given twice, deep inside, in an answer that is no JSON or a part of one",
			Harm: "The caller would read what the operator keeps from them.",
			Run: func(t *T) {
				c := t.limited("blocked", api.PolicyChange{ResponseBlock: []string{"ssn"}})
				const value = "078-05-1120-blocked"
				for what, body := range map[string]string{
					"plain": `{"ssn":"` + value + `"}`, "escaped": `{"\u0073s\u006e":"` + value + `"}`, "twice": `{"ssn":1,"ssn":"` + value + `"}`, "deep": strings.Repeat(`{"a":[`, 50) + `{"ssn":"` + value + `"}` + strings.Repeat(`]}`, 50), "an object": `{"ssn":{"a":["` + value + `"]}}`, "in lists": `[[{"ssn":"` + value + `"}]]`,
				} {
					for _, status := range []string{"200 OK", "500 Bad"} {
						a := t.echoed(what, c, sized(status, "Content-Type: application/json\r\n", body))
						if strings.Contains(string(a.raw), value) {
							t.Errorf("%s: the member was passed on: %q", what, clip(string(a.body)))
						}
						t.came("removed")
					}
				}
				for what, header := range map[string]string{"no JSON": "Content-Type: text/plain\r\n", "no type": "", "a part": "Content-Type: application/json\r\nContent-Range: bytes 1-9/20\r\n", "two types": "Content-Type: application/json\r\nContent-Type: text/plain\r\n"} {
					if a := t.echoed(what, c, sized("200 OK", header, `{"ssn":"`+value+`"}`)); a.code != api.PolicyViolation || strings.Contains(string(a.raw), value) {
						t.Errorf("%s: status %d %q", what, a.status, a.code)
					}
					t.came("withheld: policy_violation")
				}
			},
			Twin: func(t *T) {
				c := t.limited("blocked", api.PolicyChange{ResponseBlock: []string{"ssn"}})
				t.up.Answer(sized("200 OK", "Content-Type: application/json\r\n", `{"name":"ssn","a":[1]}`))
				if a := t.passes("other members", c); string(a.body) != `{"name":"ssn","a":[1]}` {
					t.Errorf("twin: %q", a.body)
				}
			},
		},
		{
			ID: "query-rules", Class: "policy", Title: "query parameters that a policy does not allow, or denies, in other spellings, and several times",
			Harm: "An escape would be enough to get round a rule.",
			Run: func(t *T) {
				only := t.limited("only", api.PolicyChange{AllowQuery: []string{"page"}}).with(func(c *call) { c.method = "GET" })
				deny := t.limited("deny", api.PolicyChange{DenyQuery: []string{"export"}}).with(func(c *call) { c.method = "GET" })
				for _, q := range []string{"x=1", "page=1&x=2", "Page=1&export=1", "page=1&&x", "page[]=1&y=1", "page=1&page=2&x=3", "x=1&page=1&x=2"} {
					t.refused("not allowed: "+q, only.to("/v1/below/x?"+q), api.PolicyViolation, api.InvalidRequest)
				}
				for _, q := range []string{"export=1", "EXPORT=1", "export=1&export=2", "a=1&export=1&a=2", "%65xport=1", "exp%6Frt", "a=b&export=", "export[]=1", "export%5B%5D=1", "export[a]=1", "\uff45xport=1", "+export=1", "export%20=1"} {
					t.refused("denied: "+q, deny.to("/v1/below/x?"+q), api.PolicyViolation, api.InvalidRequest)
				}
			},
			Twin: func(t *T) {
				only := t.limited("only", api.PolicyChange{AllowQuery: []string{"page"}}).with(func(c *call) { c.method = "GET" })
				t.passes("the parameter that is allowed", only.to("/v1/below/x?page=1"))
				t.passes("the same twice", only.to("/v1/below/x?page=1&page=2"))
			},
		},
		{
			ID: "odd-limits", Class: "policy", Title: "a policy set to 0, to a negative or enormous number, to an empty list, and with unknown fields",
			Harm: "What was meant to forbid would mean no limit.",
			Run: func(t *T) {
				c := t.honest()
				for _, body := range []string{
					`{"rateLimitPerMinute":0}`, `{"rateLimitPerMinute":-1}`, `{"rateLimitPerMinutePerCaller":0}`, `{"rateLimitPerMinute":99999999999999999999}`, `{"rateLimitPerMinute":1.5}`, `{"rateLimitPerMinute":"5"}`, `{"maxRequestBodyBytes":0}`, `{"maxResponseBodyBytes":0}`, `{"maxRequestBodyBytes":-1}`, `{"maxResponseBodyBytes":-5}`, `{"maxResponseBodyBytes":9223372036854775808}`,
					`{"responseBlock":[""]}`, `{"allowQuery":[""]}`, `{"requireJson":[{"pointer":"model","values":["a"]}]}`, `{"requireJson":[{"pointer":"/model","values":[]}]}`, `{"rate":5}`, `{"lift":["everything"]}`, `{}`,
				} {
					t.variants++
					text := `{"capability":` + quoteRaw(c.capability) + strings.Replace(`,`+body[1:], ",}", "}", 1)
					a := t.exchange(t.operator, post(api.RoutePolicies, "application/json", text))
					if a.code != api.InvalidRequest {
						t.Errorf("%s: status %d %q", body, a.status, a.code)
					}
					t.came("refused: " + string(a.code))
				}
			},
			Twin: honest,
		},
		{
			ID: "rate-two-sockets", Class: "policy", Title: "a rate counted on two sockets, with headers and bodies that differ, after failures, after a policy is set again",
			Harm: "Whoever comes by another way would start counting anew.",
			Run: func(t *T) {
				c := t.limited("rated", api.PolicyChange{RatePerMinute: new(3)})
				for i, socket := range []string{t.agent, t.operator, t.agent} {
					t.reached(fmt.Sprintf("call %d", i+1), c.with(func(c *call) { c.socket = socket }))
				}
				for _, socket := range []string{t.agent, t.operator} {
					for _, v := range []call{c, c.saying("X-A", "1"), c.sending("b"), c.to("/v1/below/y"), c.with(func(c *call) { c.workspace = "other" }), c.with(func(c *call) { c.credential = Provider })} {
						v.socket = socket
						t.refused("one too many", v, api.RateLimited)
					}
				}
				t.limit(api.PolicyChange{Capability: c.capability, RatePerMinute: new(3)})
				t.refused("after the policy was set again", c, api.RateLimited)
			},
			Twin: func(t *T) {
				c := t.limited("rated", api.PolicyChange{RatePerMinute: new(3)})
				for range 3 {
					t.passes("within the rate", c)
				}
			},
		},
		{
			ID: "last-call-twice", Class: "policy", Title: "thirty calls at once where five are left",
			Harm: "The last permitted call would be made many times.",
			Run: func(t *T) {
				const limit, many = 5, 30
				c := t.limited("raced", api.PolicyChange{RatePerMinute: new(limit)})
				answers := make([]answer, many)
				var all sync.WaitGroup
				raw := post(api.RouteProxy, "application/json", c.envelope())
				for i := range many {
					all.Go(func() { answers[i] = t.exchange(t.agent, raw) })
				}
				all.Wait()
				let := 0
				for _, a := range answers {
					t.variants++
					t.noLeak("at once", a)
					switch {
					case a.status == 200 && a.code == "":
						let++
					case a.code != api.RateLimited:
						t.Errorf("status %d %q %v", a.status, a.code, a.err)
					}
				}
				if seen := len(t.up.Take()); let != limit || seen != limit {
					t.Errorf("%d calls were let through and %d sent, want %d", let, seen, limit)
				}
				t.came("refused: rate_limited")
				t.expect(expected{audit.CallRefused, c.capability, string(api.RateLimited), "at once"})
			},
			Twin: func(t *T) {
				c := t.limited("raced", api.PolicyChange{RatePerMinute: new(5)})
				t.passes("one call", c)
			},
		},
		{
			ID: "revoked-stream", Class: "policy", Title: "an open stream whose secret, credential, capability or vault goes away, or whose capability is turned off",
			Harm: "A key that was revoked would go on working for as long as somebody holds on to it.",
			Run: func(t *T) {
				for what, revoke := range map[string]func(credential, capability string) error{
					"credential delete": func(id, _ string) error { return t.operate("DELETE", api.RouteCredentials+"/"+id, nil, nil) },
					"secrets delete": func(id, _ string) error {
						var list api.CredentialList
						if err := t.operate("GET", api.RouteCredentials, nil, &list); err != nil {
							return err
						}
						for _, c := range list.Credentials {
							if c.ID == id {
								for _, ref := range c.Secrets {
									return t.operate("DELETE", api.RouteSecrets+"/"+ref, nil, nil)
								}
							}
						}
						return fmt.Errorf("no credential %s", id)
					},
					"capability delete": func(_, capability string) error {
						return t.operate("DELETE", api.RouteCapabilities+"/"+capability, nil, nil)
					},
					"capability disable": func(_, capability string) error {
						return t.operate("POST", api.RouteCapabilities+"/disable", api.SwitchRequest{Patterns: []string{capability}}, nil)
					},
					"lock": func(string, string) error {
						err := t.operate("POST", api.RouteLock, nil, nil)
						t.defers(func() { _ = t.operate("POST", api.RouteUnlock, struct{}{}, nil) })
						return err
					},
				} {
					t.variants++
					id, capability, _ := t.credential(nil)
					t.up.Answer(endlessly("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", "data: on and on\n\n", 5*time.Millisecond))
					took, err := t.streamUntil(call{capability: capability, method: "GET", path: "/v1/below/x"}, func() error { return revoke(id, capability) })
					switch {
					case err != nil:
						t.Errorf("%s: %v", what, err)
					case took > time.Second:
						t.Errorf("%s: the stream went on for %v", what, took)
					}
					t.up.Take()
					if what == "lock" {
						t.must(t.operate("POST", api.RouteUnlock, struct{}{}, nil))
					}
				}
				t.came("broken off within a second")
			},
			Twin: func(t *T) {
				_, capability, decoy := t.credential(nil)
				gate := make(chan struct{})
				t.up.Answer(func(conn net.Conn, r *standin.Taken) bool {
					_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 22\r\n\r\ndata: one\n\n"))
					<-gate
					_, _ = conn.Write([]byte("data: two\n\n"))
					return false
				})
				time.AfterFunc(50*time.Millisecond, func() { close(gate) })
				c := call{capability: capability, method: "GET", path: "/v1/below/x", auth: "Authorization: Bearer " + decoy}
				if a := t.passes("a stream that nothing is taken from", c); !strings.HasSuffix(string(a.body), "data: two\n\n") {
					t.Errorf("twin: %q", a.body)
				}
			},
			Long: true,
		},
		{
			ID: "revoked-grant", Class: "policy", Title: "an open stream of a caller whose grant is removed",
			Harm: "Who may no longer call would go on with what is open.",
			Run: func(t *T) {
				t.variants++
				id, remove := t.ownGrant()
				t.up.Answer(endlessly("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", "data: on and on\n\n", 5*time.Millisecond))
				took, err := t.streamUntil(call{capability: id, method: "GET", path: "/v1/below/x"}, remove)
				switch {
				case err != nil:
					t.Errorf("%v", err)
				case took > time.Second:
					t.Errorf("the stream went on for %v", took)
				}
				t.up.Take()
				t.came("broken off within a second")
				t.refused("after it", call{capability: id, method: "GET", path: "/v1/below/x", host: t.host}, api.CapabilityNotFound)
			},
			Twin: func(t *T) {
				id, _ := t.ownGrant()
				t.passes("while there is the grant", call{capability: id, method: "GET", path: "/v1/below/x"})
			},
		},
		{
			ID: "scopes", Class: "policy", Title: "a credential of one workspace or group called from another, from none, and by its id",
			Harm: "One tenant's calls would be made with another's key.",
			Run: func(t *T) {
				c := t.tenant()
				for what, v := range map[string]call{
					"no context": c.with(func(c *call) { c.workspace, c.group = "", "" }), "another workspace": c.with(func(c *call) { c.workspace = "w-two" }), "another group": c.with(func(c *call) { c.group = "g-two" }), "the workspace alone": c.with(func(c *call) { c.group = "" }), "a group of the same name elsewhere": c.with(func(c *call) { c.workspace = "w-two" }),
				} {
					t.refused(what, v, api.CredentialNotFound, api.CapabilityNotFound)
					id, _, _ := strings.Cut(c.capability, "/")
					t.refused(what+", by its id", v.with(func(c *call) { c.credential = id }), api.CredentialNotFound, api.CapabilityNotFound)
				}
				for _, w := range []string{"W-one", "w-one ", "w-one/", "*", "w-one:g-one", "..", "w-one\x00", "\uff57-one"} {
					t.refused(fmt.Sprintf("workspace %+q", w), c.with(func(c *call) { c.workspace = w }), api.InvalidRequest, api.CredentialNotFound, api.CapabilityNotFound)
				}
				t.refused("a group without its workspace", c.with(func(c *call) { c.workspace = "" }), api.InvalidRequest)
			},
			Twin: func(t *T) { t.passes("from its own context", t.tenant()) },
		},
		{
			ID: "broken-beside-healthy", Class: "policy", Title: "a credential that cannot be used (a secret that is no key, a host that answers nothing) beside healthy ones",
			Harm: "One bad entry would take all others down with it.",
			Run: func(t *T) {
				_, dead, _ := t.credential(func(r *api.CredentialCreate) {
					r.Hosts, r.AllowPrivateNetwork, r.AllowPorts = []string{"localhost:1"}, true, []int{1}
				})
				t.failed("nobody listens there", call{capability: dead, method: "GET", path: "/v1/below/x"}, 0, api.UpstreamUnreachable)
				// A capability whose credential is gone.
				id, capability, _ := t.credential(nil)
				t.must(t.operate("DELETE", api.RouteCredentials+"/"+id, nil, nil))
				t.refused("its credential is gone", call{capability: capability, method: "GET", path: "/v1/below/x"}, api.CredentialNotFound)
				t.reached("the healthy one meanwhile", t.honest())
			},
			Twin: honest,
		},
		{
			ID: "recreated-credential", Class: "policy", Title: "a registry credential that is deleted and made again with other hosts, exceptions or auth, and a capability of the registry's name",
			Harm: "Two harmless steps would do what one is refused for.",
			Run: func(t *T) {
				ref, id := t.pinned("ANTHROPIC_API_KEY"), t.name(Provider)
				make := func(r api.CredentialCreate) error {
					r.ID, r.Provider, r.Scope, r.SecretRefs = id, "anthropic", pinnedScope, map[string]string{"": ref}
					return t.operate("POST", api.RouteCredentials, r, nil)
				}
				t.must(make(api.CredentialCreate{}))
				t.must(t.operate("DELETE", api.RouteCredentials+"/"+id, nil, nil))
				for what, r := range map[string]api.CredentialCreate{
					"another host": {Hosts: []string{"evil.test"}}, "private addresses": {AllowPrivateNetwork: true}, "a port": {AllowPorts: []int{8443}}, "plain http": {AllowHTTP: true}, "a CA": {CAPEM: string(t.up.CAPEM())}, "another auth": {Auth: &api.AuthSpec{Type: "query", ParamName: "k"}}, "public parts": {PublicParts: []string{"secret"}},
				} {
					t.denied(what, make(r), api.InvalidRequest, api.PolicyViolation)
				}
				r := api.CredentialCreate{ID: id, Provider: "anthropic-2", Scope: pinnedScope, SecretRefs: map[string]string{"": ref}, Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{"evil.test"}}
				t.denied("under another provider", t.operate("POST", api.RouteCredentials, r, nil), api.PolicyViolation)
				for _, c := range []string{"anthropic/messages", "openai/chat-completions"} {
					t.denied("a capability "+c, t.makeCapability(api.CapabilityCreate{ID: c, Provider: Provider, Methods: []string{"GET"}, Paths: []string{"/"}}), api.InvalidRequest, api.AlreadyExists)
				}
			},
			Twin: func(t *T) {
				id := t.name(Provider)
				err := t.operate("POST", api.RouteCredentials, api.CredentialCreate{ID: id, Provider: "anthropic", Scope: pinnedScope, SecretRefs: map[string]string{"": t.pinned("ANTHROPIC_API_KEY")}}, nil)
				if err != nil {
					t.Errorf("twin: made again as it was: %v", err)
					return
				}
				t.twins++
			},
		},
		{
			ID: "switched-off", Class: "policy", Title: "a capability that is off, called by its id, as a member of a set and with a longer path",
			Harm: "Off would mean little.",
			Run: func(t *T) {
				c := t.honest()
				t.must(t.operate("POST", api.RouteCapabilities+"/disable", api.SwitchRequest{Patterns: []string{c.capability}}, nil))
				t.defers(func() {
					_ = t.operate("POST", api.RouteCapabilities+"/enable", api.SwitchRequest{Patterns: []string{c.capability}}, nil)
				})
				t.refused("by its id", c, api.PolicyViolation)
				t.refused("below", c.to("/v1/below/x"), api.PolicyViolation)
				t.refused("by the operator's socket", c.with(func(c *call) { c.socket = t.operator }), api.PolicyViolation)
				t.must(t.operate("POST", api.RouteCapabilities+"/enable", api.SwitchRequest{Patterns: []string{c.capability}}, nil))
			},
			Twin: honest,
		},
	}
}

// bodyRule is a call of a capability whose body has to name a small model.
func (t *T) bodyRule() call {
	c := t.limited("ruled", api.PolicyChange{RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"small"}}}})
	return c.saying("Content-Type", "application/json")
}

// refusedInParts is refused for a body that no JSON could carry.
func (t *T) refusedInParts(what string, c call, body string, codes ...api.Code) {
	t.variants++
	a := t.exchange(t.agent, inParts("b", []part{{`form-data; name="envelope"`, "", c.envelope()}, {`form-data; name="body"`, "", body}}, ""))
	t.checkRefusal(what, c.capability, a, codes...)
}

// tenant is a call that a group's credential serves, from that group.
func (t *T) tenant() call {
	decoy := t.newDecoy()
	const scope = "group:w-one:g-one"
	id, err := t.storeSecret("tenant", decoy, scope)
	t.must(err)
	name := t.name(Provider)
	t.must(t.makeCredential(api.CredentialCreate{ID: name, Provider: name, Scope: scope, SecretRefs: map[string]string{"": id}, Auth: &api.AuthSpec{Type: "header"}}))
	t.must(t.makeCapability(api.CapabilityCreate{ID: name + "/call", Methods: []string{"GET"}, Paths: []string{"/v1/below"}}))
	return call{capability: name + "/call", workspace: "w-one", group: "g-one", method: "GET", path: "/v1/below/x", auth: "Authorization: Bearer " + decoy}
}

// streamUntil opens a stream, does something once it runs, and tells how long
// the stream went on after that.
func (t *T) streamUntil(c call, do func() error) (took time.Duration, err error) {
	conn, err := t.dial(t.agent)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(post(api.RouteProxy, "application/json", c.envelope()))); err != nil {
		return 0, err
	}
	var got []byte
	buf := make([]byte, 4096)
	for !strings.Contains(string(got), "on and on") {
		n, err := conn.Read(buf)
		if got = append(got, buf[:n]...); err != nil {
			return 0, fmt.Errorf("the stream did not begin: %q", clip(string(got)))
		}
	}
	if err := do(); err != nil {
		return 0, err
	}
	done := time.Now()
	for {
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			break
		}
	}
	took = time.Since(done)
	a := parse(got)
	t.noLeak("stream", a)
	if a.status != http.StatusOK || a.code == "" && a.err == nil {
		return took, fmt.Errorf("the stream ended as if it were whole")
	}
	t.expect(expected{audit.CallFinished, c.capability, string(a.code), "stream"})
	return took, nil
}
