package attack

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/server"
	"moldable.sh/aivault/internal/standin"
)

func localAttacks() []Attack {
	honest := func(t *T) { t.passes("a call", t.honest()) }
	return []Attack{
		{
			ID: "operator-routes", Class: "local", Title: "every route of the operator's, by raw HTTP, from who is none: with bodies, without, with other spellings of the path and claims to be the operator",
			Harm: "An agent would read the list of secrets, or change who may do what.",
			Run: func(t *T) {
				for _, r := range server.Routes() {
					if !r.Operator {
						continue
					}
					path := fillRoute(r.Pattern)
					for what, header := range map[string]string{"plain": "", "with a claim": "X-Aivault-Operator: 1\r\nAivault-Caller: root\r\nX-Forwarded-User: root\r\nAuthorization: Basic cm9vdDo=\r\n", "from another host": "X-Forwarded-For: 127.0.0.1\r\n"} {
						for _, body := range []string{"", "{}"} {
							t.variants++
							h := header
							if body != "" {
								h += "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
							}
							a := t.exchange(t.agent, r.Method+" "+path+" HTTP/1.1\r\nHost: aivault\r\nConnection: close\r\n"+h+"\r\n"+body)
							t.noLeak(path, a)
							if a.code != api.OperatorRequired {
								t.Errorf("%s %s, %s: status %d %q %v, want operator_required", r.Method, path, what, a.status, a.code, a.err)
								continue
							}
							if n := strings.Count(string(a.body), ","); n > 2 {
								t.Errorf("%s %s: the refusal tells more than that: %q", r.Method, path, a.body)
							}
							t.came("refused: " + string(a.code))
						}
					}
					t.expect(expected{audit.OperatorRefused, "", string(api.OperatorRequired), r.Method + " " + path})
				}
				for _, path := range []string{"/aivault/secrets/", "//aivault/secrets", "/aivault/./secrets", "/aivault/x/../secrets", "/aivault/%73ecrets", "/AIVAULT/secrets", "/aivault/secrets;x", "/aivault/secrets?x=1", "/aivault/secrets%00", "/aivault/status/../secrets", "/aivault/audit?limit=1", "/aivault/capabilities/../audit", "/debug/pprof/", "/metrics", "/"} {
					t.variants++
					a := t.ask("GET", path, "")
					t.noLeak(path, a)
					if a.code == "" {
						t.Errorf("%s: status %d %q", path, a.status, clip(string(a.body)))
					}
					t.came("refused: " + string(a.code))
				}
			},
			Twin: func(t *T) {
				honest(t)
				if a := t.ask("GET", api.RouteStatus, ""); a.status != 200 {
					t.Errorf("twin: status: %d %q", a.status, a.code)
				}
				if err := t.operate("GET", api.RouteSecrets, nil, nil); err != nil {
					t.Errorf("twin: the operator's own list: %v", err)
				}
			},
		},
		{
			ID: "short-status", Class: "local", Title: "what the routes for everyone tell who is no operator: status, capabilities, explanations",
			Harm: "An agent would learn where the vault and its key are, and what other tenants have.",
			Run: func(t *T) {
				for _, path := range []string{api.RouteStatus, api.RouteCapabilities, api.RouteCapabilities + "?show=usable", api.RouteCapabilities + "/" + Provider + "/honest"} {
					t.variants++
					a := t.ask("GET", path, "")
					t.noLeak(path, a)
					for _, word := range []string{t.dir, t.operator, t.agent, "kek.key", `"generation"`, `"pid"`, `"strength"`, `"process"`, `"audit"`, "vault:secret:"} {
						if a.status != 200 || strings.Contains(string(a.body), word) {
							t.Errorf("%s: status %d tells %q: %q", path, a.status, word, clip(string(a.body)))
						}
					}
				}
				for _, c := range []call{t.honest().to("/v1/other"), t.honest(), t.honest().with(func(c *call) { c.capability = "a/b" })} {
					t.variants++
					a := t.exchange(t.agent, post(api.RouteExplain, "application/json", c.envelope()))
					t.noLeak("explain", a)
					for _, word := range []string{`"checks"`, `"planned"`, `"binding"`, `"instead"`, `"command"`} {
						if strings.Contains(string(a.body), word) {
							t.Errorf("explain tells %s: %q", word, clip(string(a.body)))
						}
					}
				}
				t.came("nothing told")
			},
			Twin: honest,
		},
		{
			ID: "browsers", Class: "local", Title: "requests with the headers that only a browser sends: `Origin`, `Sec-Fetch-*`, in any case, to every kind of route",
			Harm: "A page that somebody opens would call with their keys.",
			Run: func(t *T) {
				c := t.honest()
				body := c.envelope()
				for _, h := range []string{"Origin: https://evil.test", "Origin: null", "origin: http://localhost", "ORIGIN: x", "Origin:", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "sec-fetch-dest: empty", "Sec-Fetch-Site: same-origin", "Sec-Fetch-User: ?1", "Sec-Fetch-Anything: x"} {
					t.variants++
					a := t.exchange(t.agent, proxyRequest(h+"\r\n"+fmt.Sprintf("Content-Length: %d\r\n", len(body)), body))
					t.checkRefusal(h, "", a, api.PolicyViolation)
					for _, socket := range []string{t.agent, t.operator} {
						a := t.exchange(socket, "GET "+api.RouteStatus+" HTTP/1.1\r\nHost: localhost:1234\r\nConnection: close\r\n"+h+"\r\n\r\n")
						if a.code != api.PolicyViolation {
							t.Errorf("status with %s: %d %q", h, a.status, a.code)
						}
					}
				}
			},
			Twin: honest,
		},
		{
			ID: "claimed-identity", Class: "local", Title: "who is asking, claimed in fields of the envelope and in headers",
			Harm: "A caller would be recorded, limited and let through as somebody else.",
			Run: func(t *T) {
				for _, name := range []string{"uid", "gid", "pid", "user", "caller", "operator", "consumer", "program", "grant", "identity", "as", "sudo", "impersonate", "role"} {
					for _, value := range []string{`0`, `"root"`, `true`, `{"uid":0}`} {
						t.refused("call."+name, t.honest().with(func(c *call) { c.more = `,"` + name + `":` + value }), api.InvalidRequest)
					}
				}
				c := t.honest()
				body := c.envelope()
				for _, h := range []string{"X-Forwarded-User: root", "X-Remote-User: root", "Aivault-Caller: 0", "X-Aivault-Uid: 0", "Authorization: Bearer operator", "Impersonate-User: root", "From: root@localhost"} {
					t.variants++
					if a := t.exchange(t.agent, proxyRequest(h+"\r\n"+fmt.Sprintf("Content-Length: %d\r\n", len(body)), body)); a.err != nil {
						t.Errorf("%s: %v", h, a.err)
					}
				}
				t.up.Take()
				records, err := t.records()
				t.must(err)
				own := uint32(os.Getuid())
				for _, r := range records {
					if strings.HasPrefix(r.Event, "call.") && r.Capability == c.capability && (r.Caller.UID != own || r.Caller.Operator) {
						t.Errorf("recorded as uid %d, operator %v", r.Caller.UID, r.Caller.Operator)
					}
				}
				st, err := t.status()
				if err != nil || st.Caller.UID != own || st.Caller.Operator {
					t.Errorf("the status calls this caller uid %d, operator %v: %v", st.Caller.UID, st.Caller.Operator, err)
				}
			},
			Twin: honest,
		},
		{
			ID: "file-paths", Class: "local", Title: "paths of files in the envelope: the vault, its key, `/dev/zero`, a FIFO, as body, part, output and certificate",
			Harm: "The daemon would read or write files with its owner's rights for somebody who has none.",
			Run: func(t *T) {
				for _, name := range []string{"bodyFile", "bodyFilePath", "body_file", "multipartFiles", "multipart_files", "file", "output", "outputPath", "requestFile", "caFile", "cert", "multipart"} {
					for _, path := range []string{t.dir + "/vault.aiv", t.dir + "/kek.key", "/dev/zero", "/dev/stdin", "/proc/self/environ", "@/etc/passwd", "file:///etc/shadow"} {
						t.refused("request."+name, t.honest().with(func(c *call) { c.moreRequest = `,"` + name + `":` + quoteRaw(path) }), api.InvalidRequest)
						t.refused("call."+name, t.honest().with(func(c *call) { c.more = `,"` + name + `":` + quoteRaw(path) }), api.InvalidRequest)
					}
				}
				for _, body := range []string{"@" + t.dir + "/kek.key", "@/dev/zero", "file://" + t.dir + "/kek.key", "<" + t.dir + "/kek.key"} {
					t.variants++
					t.reached("a body that names a file", t.honest().with(func(c *call) { c.method = "POST" }).sending(body))
				}
				t.came("sent as text")
			},
			Twin: honest,
		},
		{
			ID: "slow-callers", Class: "local", Title: "two hundred connections that say nothing, half a head or half a body, while others call",
			Harm: "A caller who does nothing would keep everybody out.",
			Run: func(t *T) {
				half := []string{"", "POST /aiv", "POST " + api.RouteProxy + " HTTP/1.1\r\nHost: a\r\nX-A: ", "POST " + api.RouteProxy + " HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{", "POST " + api.RouteProxy + " HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"}
				var open []net.Conn
				defer func() {
					for _, c := range open {
						_ = c.Close()
					}
				}()
				for i := range 200 {
					t.variants++
					conn, err := t.dial(t.agent)
					t.must(err)
					open = append(open, conn)
					_, err = io.WriteString(conn, half[i%len(half)])
					t.must(err)
				}
				for i := range 5 {
					a := t.reached(fmt.Sprintf("call %d meanwhile", i+1), t.honest())
					if a.took > 2*time.Second {
						t.Errorf("a call meanwhile took %v", a.took)
					}
				}
				t.came("held up nobody")
			},
			Twin: honest,
		},
		{
			ID: "many-connections", Class: "local", Title: "more connections than one user may have, opened and left",
			Harm: "The daemon would run out of descriptors, for everybody.",
			Run: func(t *T) {
				const many = 700 // a user may have 512
				var open []net.Conn
				for range many {
					t.variants++
					conn, err := t.dial(t.agent)
					if err != nil {
						break // its queue is full: as good as refused
					}
					open = append(open, conn)
				}
				// What is beyond the bound is closed, unasked.
				closed := 0
				for _, c := range open {
					_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
					if _, err := c.Read(make([]byte, 1)); err == io.EOF {
						closed++
					}
				}
				if len(open) == many && closed == 0 {
					t.Errorf("%d connections were open at once", len(open))
				}
				for _, c := range open {
					_ = c.Close()
				}
				if !await(5*time.Second, func() bool { a := t.ask("GET", api.RouteStatus, ""); return a.status == 200 }) {
					t.Errorf("nobody is let in when they are gone")
				}
				t.came("closed")
			},
			Twin: honest, Long: true,
		},
		{
			ID: "endless-requests", Class: "local", Title: "a request that never ends: in chunks, as a head, as a body of a gigabyte that is announced",
			Harm: "One caller would take all memory.",
			Run: func(t *T) {
				flood := func(head, piece string, most int) answer {
					conn, err := t.dial(t.agent)
					t.must(err)
					defer conn.Close()
					sent := make(chan struct{})
					go func() {
						defer close(sent)
						_, err := io.WriteString(conn, head)
						for n := 0; err == nil && n < most; n += len(piece) {
							_, err = io.WriteString(conn, piece)
						}
					}()
					got := make([]byte, 0, 4096)
					for len(got) == 0 || !strings.Contains(string(got), "}\n") {
						buf := make([]byte, 4096)
						n, err := conn.Read(buf)
						if got = append(got, buf[:n]...); err != nil {
							break
						}
					}
					_ = conn.Close()
					<-sent
					return parse(got)
				}
				piece := strings.Repeat("a", 1<<16)
				head := "POST " + api.RouteProxy + " HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
				for what, v := range map[string][2]string{
					"chunks":              {head + "Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)},
					"a gigabyte":          {head + "Content-Length: 1073741824\r\n\r\n", piece},
					"a head":              {"POST " + api.RouteProxy + " HTTP/1.1\r\nHost: a\r\n", "X-A: " + piece + "\r\n"},
					"a request line":      {"GET /", piece},
					"an endless boundary": {"POST " + api.RouteProxy + " HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)},
				} {
					t.variants++
					a := flood(v[0], v[1], 64<<20)
					if a.code == "" && a.err == nil || a.err != nil && len(a.raw) > 0 {
						t.Errorf("%s: status %d %q %v", what, a.status, a.code, a.err)
						continue
					}
					t.came("cut off")
				}
				t.nothingSent("endless")
			},
			Twin: honest, Long: true,
		},
		{
			ID: "slow-upstreams", Class: "local", Title: "an upstream that never answers, never ends, answers byte by byte, and resets in the middle, while others call",
			Harm: "One call would hold up all.",
			Run: func(t *T) {
				_, capability, _ := t.credential(nil)
				slow := call{capability: capability, method: "GET", path: "/v1/below/x", timeoutMs: 600}
				for what, v := range map[string]struct {
					act  standin.Act
					code api.Code
				}{
					"never answers": {silently, api.UpstreamTimeout}, "never ends": {endlessly("HTTP/1.1 200 OK\r\n\r\n", "more", 2*time.Millisecond), api.UpstreamTimeout}, "half a head": {func(c net.Conn, r *standin.Taken) bool {
						_, _ = io.WriteString(c, "HTTP/1.1 200")
						return silently(c, r)
					}, api.UpstreamTimeout}, "byte by byte": {slowly("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"+strings.Repeat("a", 99999), 3*time.Millisecond), api.UpstreamTimeout},
					"resets": {respond("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), api.UpstreamUnreachable},
				} {
					t.variants++
					t.up.Answer(v.act)
					var a answer
					var one sync.WaitGroup
					raw := post(api.RouteProxy, "application/json", slow.envelope())
					one.Go(func() { a = t.exchange(t.agent, raw) })
					await(5*time.Second, func() bool { return t.up.Waiting() > 0 })
					t.up.Answer(standin.Whole("ok"))
					t.up.Take()
					if b := t.reached("a call meanwhile", t.honest()); b.took > 500*time.Millisecond {
						t.Errorf("%s: a call meanwhile took %v", what, b.took)
					}
					one.Wait()
					t.noLeak(what, a)
					if a.code != v.code {
						t.Errorf("%s: status %d %q %v, want %s", what, a.status, a.code, a.err, v.code)
					}
					t.came("broken off: " + string(a.code))
					t.up.Take()
				}
			},
			Twin: func(t *T) {
				t.up.Answer(slowly("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", time.Millisecond))
				if a := t.passes("an answer byte by byte", t.honest()); string(a.body) != "hello" {
					t.Errorf("twin: %q", a.body)
				}
			},
			Long: true,
		},
		{
			ID: "gone-callers", Class: "local", Title: "callers who leave in the middle of their request, or of the answer",
			Harm: "Calls that nobody waits for would go on, and hold what they use.",
			Run: func(t *T) {
				ended := make(chan struct{}, 16)
				t.up.Answer(func(conn net.Conn, r *standin.Taken) bool {
					endlessly("HTTP/1.1 200 OK\r\n\r\n", "more of it", time.Millisecond)(conn, r)
					ended <- struct{}{}
					return false
				})
				c := t.honest()
				for range 5 {
					t.variants++
					conn, err := t.dial(t.agent)
					t.must(err)
					_, err = io.WriteString(conn, post(api.RouteProxy, "application/json", c.envelope()))
					t.must(err)
					if _, err := io.ReadFull(conn, make([]byte, 500)); err != nil {
						t.Errorf("the answer did not begin: %v", err)
					}
					_ = conn.Close()
					select {
					case <-ended:
					case <-time.After(5 * time.Second):
						t.Errorf("the upstream was still read five seconds after the caller had gone")
					}
				}
				t.up.Take()
				t.expect(expected{audit.CallFinished, c.capability, "", "gone"})
				t.up.Answer(standin.Whole("ok"))
				for range 50 {
					t.halfClosed(c.to(late))
				}
				t.came("ended with its caller")
			},
			Twin: honest,
		},
		{
			ID: "grants-of-others", Class: "local", Title: "a capability that is granted to another uid, called with claims to be that, explained, described and listed",
			Harm: "A grant would serve whoever knows of it.",
			Run:  othersGrant,
			Twin: func(t *T) {
				id, _ := t.ownGrant()
				t.passes("what the caller's group is granted", call{capability: id, method: "GET", path: "/v1/below/x"})
			},
		},
	}
}

// othersGrant calls what somebody else is granted: to this caller it has to be
// as if nobody had made it.
func othersGrant(t *T) {
	id, missing := t.forGrants(), "no-such-capability/call"
	other := uint32(3_999_999_999)
	t.grants(api.GrantAdd{Consumer: api.ConsumerRef{UID: &other}, Capabilities: []string{id}})
	c := call{capability: id, method: "GET", path: "/v1/below/x", host: t.host}
	claim := "X-Aivault-Uid: 3999999999\r\nAivault-Caller: 3999999999\r\nX-Forwarded-User: 3999999999\r\n"
	t.refused("granted to another", c, api.CapabilityNotFound)
	t.refused("in another context", c.with(func(c *call) { c.workspace = "w" }), api.CapabilityNotFound)
	t.refused("with a field that claims it", c.with(func(c *call) { c.more = `,"uid":3999999999` }), api.InvalidRequest)
	same := func(what string, ask func(id string) answer) {
		t.variants++
		there, none := ask(id), ask(missing)
		t.noLeak(what, there)
		if there.status != none.status || strings.ReplaceAll(string(there.body), id, missing) != string(none.body) {
			t.Errorf("%s: what is granted to another answers %d %q, and what is not there %d %q", what, there.status, clip(string(there.body)), none.status, clip(string(none.body)))
		}
	}
	same("called", func(id string) answer { return t.Stand.call(c.with(func(c *call) { c.capability = id })) })
	same("explained", func(id string) answer {
		return t.exchange(t.agent, post(api.RouteExplain, "application/json", c.with(func(c *call) { c.capability = id }).envelope()))
	})
	same("described", func(id string) answer { return t.ask("GET", api.RouteCapabilities+"/"+id, claim) })
	t.variants++
	if a := t.ask("GET", api.RouteCapabilities, claim); a.status != 200 || strings.Contains(string(a.body), id) {
		t.Errorf("listed: status %d tells of what is granted to another", a.status)
	}
	t.nothingSent("granted to another")
}

// ownGrant makes a capability that the caller's own group alone is granted.
func (t *T) ownGrant() (id string, remove func() error) {
	id = t.forGrants()
	own, err := ownGroup()
	t.must(err)
	return id, t.grants(api.GrantAdd{Consumer: api.ConsumerRef{GroupName: own}, Capabilities: []string{id}})
}

// forGrants makes a capability that no grant of the suite's own names.
func (t *T) forGrants() (id string) {
	secret, err := t.storeSecret("own", t.decoy, "")
	t.must(err)
	name := t.name("granted")
	t.must(t.makeCredential(api.CredentialCreate{ID: name, Provider: name, SecretRefs: map[string]string{"": secret}, Auth: &api.AuthSpec{Type: "header"}}))
	t.must(t.makeCapability(api.CapabilityCreate{ID: name + "/call", Provider: name, Methods: []string{"GET"}, Paths: []string{"/v1/below"}}))
	return name + "/call"
}

// grants adds a grant for the time of the attack, in which whoever has none may
// do nothing. remove takes it away earlier.
func (t *T) grants(add api.GrantAdd) (remove func() error) {
	var before api.GrantList
	var made api.Grant
	t.must(t.operate("GET", api.RouteGrants, nil, &before))
	t.must(t.operate("POST", api.RouteGrants, add, &made))
	t.must(t.operate("POST", api.RouteGrants+"/default", api.GrantDefault{Default: api.GrantDeny}, nil))
	remove = sync.OnceValue(func() error { return t.operate("DELETE", api.RouteGrants+"/"+made.ID, nil, nil) })
	t.defers(func() {
		err := remove()
		if !slices.ContainsFunc(before.Grants, func(g api.Grant) bool { return reflect.DeepEqual(g.Consumer, made.Consumer) }) {
			err = errors.Join(err, t.operate("POST", api.RouteGrants+"/reset", add.Consumer, nil)) // of the empty one that is left
		}
		if err = errors.Join(err, t.operate("POST", api.RouteGrants+"/default", api.GrantDefault{Default: before.Default}, nil)); err != nil {
			t.Errorf("the grants could not be put back: %v", err)
		}
	})
	return remove
}

// halfClosed makes a call and says at once that nothing more follows, so that
// the daemon sees its caller go wherever the call stands. Whoever still reads
// is answered, in the daemon's own words.
func (t *T) halfClosed(c call) {
	t.variants++
	conn, err := t.dial(t.agent)
	t.must(err)
	defer conn.Close()
	_, err = io.WriteString(conn, post(api.RouteProxy, "application/json", c.envelope()))
	t.must(err)
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	got, err := io.ReadAll(conn)
	if err != nil || strings.Contains(string(got), "context ") {
		t.Errorf("who closed their half was told %q %v", clip(string(got)), err)
	}
	t.noLeak("half closed", parse(got))
}

// fillRoute puts something in place of a route's parameters.
func fillRoute(pattern string) string {
	before, after, found := strings.Cut(pattern, "{")
	if !found {
		return pattern
	}
	name, rest, _ := strings.Cut(after, "}")
	if strings.HasSuffix(name, "...") {
		return before + Provider + "/honest" + rest
	}
	return before + Provider + rest
}
