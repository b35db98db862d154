package attack

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
)

func auditAttacks() []Attack {
	honest := func(t *T) { t.passes("a call", t.honest()) }
	// clean looks at every line written so far.
	clean := func(t *T, words ...string) {
		records, err := t.records()
		t.must(err)
		for _, r := range records[t.clean:] {
			if !json.Valid([]byte(r.line)) || strings.IndexFunc(r.line, func(c rune) bool { return c < 0x20 || c > 0x7e }) >= 0 {
				t.Errorf("a line of the log is not one line of plain JSON: %q", clip(r.line))
			}
			if len(r.line) > 8191 {
				t.Errorf("a line of the log has %d bytes", len(r.line))
			}
			for _, w := range words {
				if strings.Contains(r.line, w) {
					t.Errorf("a line of the log holds %q: %q", w, clip(r.line))
				}
			}
		}
		for some := range slices.Chunk(records[t.clean:], 2000) {
			var all []byte
			for _, r := range some {
				all = append(append(all, r.line...), '\n')
			}
			if how := t.finder.find(all); how != "" {
				t.Errorf("the log holds a secret (%s) between lines %d and %d", how, some[0].Seq, some[len(some)-1].Seq)
			}
		}
		t.clean = len(records)
	}
	return []Attack{
		{
			Long: true, ID: "log-injection", Class: "audit", Title: "line ends, escape sequences, bidirectional and invisible characters, quotes and invalid UTF-8 in every field that a record could repeat",
			Harm: "A caller would write lines of their own into the log, or hide them on the operator's terminal.",
			Run: func(t *T) {
				c := t.honest()
				for _, s := range []string{"\n{\"seq\":1,\"event\":\"call.allowed\"}", "\r\n", "\x1b[2K\x1b[1A", "\x1b]0;title\x07", "\u202e", "\u2066", "\u200b", "\x00", "\x7f", "\u0085", "\u2028", "\"}", "\\", "\\u000a", "\xff\xfe", "\ud7ff", "\U0010ffff", "%0a", "<script>", "'; drop", strings.Repeat("A", 100_000)} {
					for what, v := range map[string]call{
						"capability": c.with(func(c *call) { c.capability += s }), "path": c.to("/v1/exact" + s), "query": c.to("/v1/exact?a=" + s + "\n"), "method": c.with(func(c *call) { c.method += s }), "credential": c.with(func(c *call) { c.credential = "a" + s }),
						"workspace": c.with(func(c *call) { c.workspace = "w" + s }), "group": c.with(func(c *call) { c.workspace, c.group = "w", "g"+s }), "header": c.saying("X-A"+s+"\n", "1"), "value": c.saying("X-A", s+"\n"),
					} {
						t.variants++
						t.noLeak(what, t.Stand.call(v))
					}
				}
				t.up.Take()
				clean(t)
				t.came("written as text")
			},
			Twin: honest,
		},
		{
			ID: "log-secrets", Class: "audit", Title: "query values, bodies and header values of calls that are let through and refused; secrets in the place of names",
			Harm: "The log would be a second place where secrets lie, in the clear.",
			Run: func(t *T) {
				const mark = "marked-query-value"
				c := t.honest()
				for _, v := range []call{
					c.to("/v1/exact?q=" + mark), c.to("/v1/below/" + mark + "?q=" + mark), c.to("/v1/other?q=" + mark), c.saying("X-A", mark), c.saying("Authorization", mark), c.with(func(c *call) { c.method = "POST" }).sending(mark),
				} {
					t.variants++
					t.noLeak("marked", t.Stand.call(v))
				}
				t.up.Answer(sized("500 "+mark, "X-Request-Id: "+mark+"\r\n", mark))
				t.Stand.call(c)
				t.up.Answer(respond(mark))
				t.Stand.call(c)
				t.up.Take()
				clean(t, mark)
				t.came("not recorded")
			},
			Twin: honest,
		},
		{
			ID: "log-complete", Class: "audit", Title: "calls that succeed, are refused, fail, are broken off and are scrubbed, each looked for in the log",
			Harm: "Something would happen of which nobody is told.",
			Run: func(t *T) {
				_, capability, _ := t.credential(nil)
				c := call{capability: capability, method: "GET", path: "/v1/below/x"}
				before := t.ofCapability(capability)
				t.refused("refused", c.to("/v1/other"))
				t.up.Answer(sized("200 OK", "", "an echo: "+t.decoy+t.decoy))
				t.scrubbed("scrubbed", c, sized("200 OK", "", "echoes: "+t.decoy+" "+t.decoy))
				t.echoed("failed", c, respond("no HTTP\r\n\r\n"))
				t.echoed("broken off", c, respond("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf"))
				t.echoed("an error", c, sized("503 No", "", "no"))
				after := t.ofCapability(capability)
				count := map[string]int{}
				redactions, failures := 0, 0
				finished := map[string]int{}
				for _, r := range after[len(before):] {
					count[r.Event]++
					if r.Event == audit.CallFinished {
						redactions += r.Redactions
						finished[r.RequestID]++
						if r.Code != "" {
							failures++
						}
					}
					if r.Event == audit.CallAllowed && (r.Path != "/v1/below" || r.Host != t.host || r.Credential == "" || r.RequestID == "") {
						t.Errorf("the record of a decision: %q", r.line)
					}
				}
				if count[audit.CallRefused] != 1 || count[audit.CallAllowed] != 4 || count[audit.CallFinished] != 4 || redactions != 2 || failures != 2 || len(finished) != 4 {
					t.Errorf("the log has %v with %d redactions and %d failures of one refused and four calls that were let through", count, redactions, failures)
				}
				t.came("recorded")
			},
			Twin: honest,
		},
		{
			ID: "log-first", Class: "audit", Title: "whether the record of a call is there before its request, and the outcome before the caller has the answer's end",
			Harm: "A crash at the right moment would leave a call that nobody knows of.",
			Run: func(t *T) {
				_, capability, _ := t.credential(nil)
				for range 20 {
					t.variants++
					n := len(t.ofCapability(capability))
					a := t.Stand.call(call{capability: capability, method: "GET", path: "/v1/below/x"})
					t.noLeak("ordered", a)
					records := t.ofCapability(capability)
					if len(records) < n+2 || records[n].Event != audit.CallAllowed || records[len(records)-1].Event != audit.CallFinished {
						t.Errorf("after the answer the log has %d records of the call", len(records)-n)
					}
				}
				t.up.Take()
				t.came("recorded first")
			},
			Twin: honest,
		},
		{
			ID: "log-of-the-operator", Class: "audit", Title: "changes of the operator's, made and refused, looked for in the log; no way to read, turn off or move it from an agent's socket",
			Harm: "Whoever changes who may do what would leave no trace.",
			Run: func(t *T) {
				id := Provider + "/" + t.name("changed")
				t.must(t.makeCapability(api.CapabilityCreate{ID: id, Methods: []string{"GET"}, Paths: []string{"/"}}))
				t.must(t.operate("DELETE", api.RouteCapabilities+"/"+id, nil, nil))
				records := t.ofObject(id)
				if len(records) != 2 || records[0].Event != audit.CapabilityCreated || records[1].Event != audit.CapabilityDeleted || records[0].Caller.UID == 0 && !records[0].Caller.Operator {
					t.Errorf("two changes left %d records", len(records))
				}
				for _, r := range []string{"DELETE " + api.RouteAudit, "POST " + api.RouteAudit, "PATCH " + api.RouteAudit, "PUT " + api.RouteAudit, "GET " + api.RouteAudit, "GET " + api.RouteAudit + "?limit=1", "DELETE " + api.RouteAudit + "/1"} {
					t.variants++
					method, path, _ := strings.Cut(r, " ")
					a := t.ask(method, path, "")
					if a.code != api.OperatorRequired && a.code != api.InvalidRequest {
						t.Errorf("%s: status %d %q", r, a.status, a.code)
					}
					t.came("refused: " + string(a.code))
				}
				clean(t)
			},
			Twin: honest,
		},
		{
			Long: true, ID: "log-flood", Class: "audit", Title: "a thousand equal refusals in a row, and long names in each",
			Harm: "A caller would fill the disk, or push what they did out of sight.",
			Run: func(t *T) {
				c := t.honest().to("/v1/flooded")
				for range 1000 {
					t.variants++
					if a := t.Stand.call(c); a.code != api.PolicyViolation && a.code != api.RateLimited {
						t.Fatalf("status %d %q", a.status, a.code)
					}
				}
				t.came("refused: " + string(api.PolicyViolation))
				t.nothingSent("flood")
				t.expect(expected{audit.CallRefused, c.capability, string(api.PolicyViolation), "flood"})
				size := 0
				for _, r := range t.ofCapability(c.capability) {
					size += len(r.line)
				}
				if size > 1000*1024 {
					t.Errorf("a thousand refusals took %d bytes of the log", size)
				}
				long := c.with(func(c *call) { c.capability = strings.Repeat("a", 1<<20) })
				if a := t.Stand.call(long); a.code == "" {
					t.Errorf("a name of a MiB: status %d", a.status)
				}
				clean(t)
			},
			Twin: honest,
		},
		{
			ID: "idle-followers", Class: "audit", Title: "a hundred followers of the log and as many exports of it, none of which is read, while others call; the same asked for by who is no operator",
			Harm: "Whoever watches the log would hold up what is written to it.",
			Run: func(t *T) {
				for _, route := range []string{api.RouteAuditFollow, api.RouteAuditExport} {
					t.variants++
					a := t.ask("GET", route, "")
					if a.code != api.OperatorRequired {
						t.Errorf("%s: status %d %q", route, a.status, a.code)
					}
					t.came("refused: " + string(a.code))
					for range 100 {
						t.variants++
						conn, err := t.dial(t.operator)
						t.must(err)
						defer conn.Close()
						_, err = io.WriteString(conn, "GET "+route+" HTTP/1.1\r\nHost: aivault\r\n\r\n")
						t.must(err)
					}
				}
				for range 200 {
					t.reached("while nobody reads", t.honest())
				}
				t.came("held up nobody")
			},
			Twin: func(t *T) {
				conn, err := t.dial(t.operator)
				t.must(err)
				defer conn.Close()
				_, err = io.WriteString(conn, "GET "+api.RouteAuditFollow+" HTTP/1.1\r\nHost: aivault\r\n\r\n")
				t.must(err)
				lines := bufio.NewScanner(conn)
				for lines.Scan() && lines.Text() != "" { // the header: it follows from here on
				}
				honest(t)
				for lines.Scan() {
					if strings.Contains(lines.Text(), audit.CallFinished) && strings.Contains(lines.Text(), t.capID) {
						return
					}
				}
				t.Errorf("twin: who reads is not told of the call: %v", lines.Err())
			},
		},
	}
}

// ofCapability are the records of a capability so far.
func (t *T) ofCapability(id string) (found []record) {
	records, err := t.records()
	t.must(err)
	for _, r := range records {
		if r.Capability == id && strings.HasPrefix(r.Event, "call.") {
			found = append(found, r)
		}
	}
	return found
}

// ofObject are the records of changes to an object so far.
func (t *T) ofObject(id string) (found []record) {
	records, err := t.records()
	t.must(err)
	for _, r := range records {
		if r.Object == id {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		t.Errorf("%s", fmt.Sprintf("no record of %s", id))
	}
	return found
}
