package broker_test

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// graph is a provider whose endpoints are told by their bodies.
const graph = `{"schemaVersion":1,"provider":"graph","title":"Graph","category":"x","docs":"https://graph.test","getKey":{"text":"Ask.","url":"https://graph.test"},
  "secrets":[{"name":"GRAPH_KEY","field":"secret"}],"hosts":["api.graph.test"],
  "logins":[{"id":"key","auth":{"type":"header","headerName":"X-Graph-Key","valueTemplate":"{{secret}}"}}],
  "capabilities":[
    {"id":"graph/all-query","description":"Read.","access":"read","methods":["POST"],"paths":["=/graphql"],"operation":{"graphql":["query"]},"example":"--body '{\"query\":\"{ a }\"}'"},
    {"id":"graph/all-mutation","description":"Write.","access":"write","methods":["POST"],"paths":["=/graphql"],"operation":{"graphql":["mutation"]}},
    {"id":"graph/secret-mutation","description":"Administer.","access":"admin","methods":["POST"],"paths":["=/secret"],"operation":{"graphql":["mutation"]}},
    {"id":"graph/secret-query","description":"Read.","access":"read","methods":["POST"],"paths":["=/secret"],"operation":{"graphql":["query"]}},
    {"id":"graph/twin-a","description":"Read.","access":"read","methods":["POST"],"paths":["=/twin"],"operation":{"graphql":["query"]}},
    {"id":"graph/twin-b","description":"Write.","access":"write","methods":["POST"],"paths":["=/twin"],"operation":{"graphql":["query","mutation"]}},
    {"id":"graph/mix-query","description":"Read.","access":"read","methods":["POST"],"paths":["=/mix"],"operation":{"graphql":["query"]}},
    {"id":"graph/mix-call","description":"Call.","access":"read","methods":["POST"],"paths":["=/mix"],"operation":{"jsonrpc":["eth_get*"]}},
    {"id":"graph/half-query","description":"Read.","access":"read","methods":["POST"],"paths":["=/half"],"operation":{"graphql":["query"]}},
    {"id":"graph/half-all","description":"All.","access":"mixed","methods":["POST"],"paths":["=/half"]},
    {"id":"graph/files","description":"Files.","access":"read","methods":["GET"],"paths":["/files"]}],
  "sets":[
    {"id":"graph/all","description":"Both.","members":["graph/all-query","graph/all-mutation"],"default":"graph/all-query"},
    {"id":"graph/secret","description":"Both.","members":["graph/secret-query","graph/secret-mutation"]}]}`

// graphed is a vault with graph's key, and nothing but graph in its registry.
func graphed(t testing.TB, o aivaulttest.Options) *aivaulttest.Aivault {
	t.Helper()
	p, err := registry.Parse([]byte(graph))
	if err != nil {
		t.Fatal(err)
	}
	if o.Registry, err = registry.New(p); err != nil {
		t.Fatal(err)
	}
	v := start(t, o)
	v.Create(t, "GRAPH_KEY", "graph-key-0123456789")
	return v
}

const (
	aQuery    = `{"query":"query A($x: I) { a(x: $x) } # mutation { b }","variables":{"x":"} mutation { b }"},"operationName":"A"}`
	aMutation = `{"query":"mutation { a(text: \"query\") }"}`
	aBoth     = `{"query":"query A { a } mutation B { b }","operationName":"A"}`
	aCall     = `{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":[]}`
)

// typed is a call whose body comes beside it.
func typed(capability, path string) api.Call {
	return with(api.Call{Capability: capability, Request: api.Request{Method: "POST", Path: path}}, "Content-Type: application/json")
}

// A call on a set goes to the member that its body asks for, as text and as a
// stream, and is sent as it was judged.
func TestTheBodyTellsTheMember(t *testing.T) {
	v := graphed(t, aivaulttest.Options{})
	for _, c := range []struct {
		id, path, body string
		member         string
		code           api.Code
	}{
		{"graph/all", "/graphql", aQuery, "graph/all-query", ""},
		{"graph/all", "/graphql", aMutation, "graph/all-mutation", ""},
		{"graph/all", "/graphql", aBoth, "", api.PolicyViolation},
		{"graph/all", "/graphql", `[` + aQuery + `]`, "", api.PolicyViolation},
		{"graph/all", "/graphql", `{"query":"subscription { a }"}`, "", api.PolicyViolation},
		{"graph/all", "/graphql", `{}`, "", api.PolicyViolation},
		{"graph/all", "/graphql", aCall, "", api.PolicyViolation},
		{"graph/all", "/graphql?x=1", aQuery, "", api.PolicyViolation},
		{"graph/*", "/graphql", aQuery, "graph/all-query", ""},
		{"graph/*", "/graphql", aMutation, "graph/all-mutation", ""},
		{"graph/all-*", "/graphql", aMutation, "graph/all-mutation", ""},
		{"graph/*-query", "/graphql", aQuery, "graph/all-query", ""},
		{"graph/*-query", "/graphql", aMutation, "", api.PolicyViolation},
		{"graph/all-query", "/graphql", aQuery, "graph/all-query", ""},
		{"graph/all-query", "/graphql", aMutation, "", api.PolicyViolation},
		{"graph/all-query", "/graphql", aBoth, "", api.PolicyViolation},
		{"graph/all-mutation", "/graphql", aMutation, "graph/all-mutation", ""},
		{"graph/all-mutation", "/graphql", aQuery, "", api.PolicyViolation},
		{"graph/all-mutation", "/graphql", aBoth, "", api.PolicyViolation},
		{"graph/secret", "/secret", aQuery, "graph/secret-query", ""},
		{"graph/secret", "/secret", aMutation, "", api.PolicyViolation}, // off
		{"graph/twin-*", "/twin", aQuery, "", api.InvalidRequest},
		{"graph/twin-*", "/twin", aMutation, "graph/twin-b", ""},
		{"graph/mix-*", "/mix", aQuery, "graph/mix-query", ""},
		{"graph/mix-*", "/mix", aCall, "graph/mix-call", ""},
		{"graph/mix-*", "/mix", aMutation, "", api.PolicyViolation},
		{"graph/mix-*", "/mix", `{"jsonrpc":"2.0","method":"eth_sendRawTransaction"}`, "", api.PolicyViolation},
		{"graph/mix-*", "/mix", `[]`, "", api.PolicyViolation},
		{"graph/half-*", "/half", aQuery, "", api.InvalidRequest}, // nothing tells one that takes every body
		{"graph/half-all", "/half", aMutation, "graph/half-all", ""},
	} {
		for how, body := range map[string]func() egress.Body{
			"text":   nil,
			"stream": func() egress.Body { return known(c.body) },
			"open":   func() egress.Body { return chunked(c.body) },
		} {
			call, beside := typed(c.id, c.path), egress.Body{}
			if body == nil {
				call = post(c.id, c.path, c.body)
			} else {
				beside = body()
			}
			before := len(v.API.Seen())
			planned, _, err := do(&v.Process, aivaulttest.Agent(), call, beside)
			seen := v.API.Seen()[before:]
			if api.CodeOf(err) != c.code || err == nil && planned.Capability != c.member {
				t.Errorf("%s %s %s, %s: %v %v, want %s%s", c.id, c.path, c.body, how, planned, err, c.member, c.code)
				continue
			}
			if err != nil {
				if len(seen) > 0 {
					t.Errorf("%s %s %s, %s: something was sent", c.id, c.path, c.body, how)
				}
				continue
			}
			if len(seen) != 1 || string(seen[0].Body) != c.body || seen[0].Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s %s, %s: the API saw %+v", c.id, c.path, c.body, how, seen)
			}
			records := aivaulttest.Events(v.Records(t), "call.allowed")
			if r := records[len(records)-1]; r["capability"] != c.member || r["path"] != "="+c.path {
				t.Errorf("%s %s is recorded as %v of %v", c.id, c.path, r["path"], r["capability"])
			}
		}
	}
	// The default call is the query's, whatever the body asks for.
	for body, member := range map[string]string{aQuery: "graph/all-query", aMutation: "graph/all-mutation"} {
		call := api.Call{Capability: "graph/all", Request: api.Request{Body: &body}}
		if planned, _, err := do(&v.Process, aivaulttest.Agent(), call, egress.Body{}); err != nil || planned.Capability != member {
			t.Errorf("%s: %v, %v", body, planned, err)
		}
	}
}

// What the errors say, to whom they say it.
func TestAnOperationThatIsRefused(t *testing.T) {
	v := graphed(t, aivaulttest.Options{})
	for _, c := range []struct {
		call api.Call
		text string
		hint string
	}{
		{post("graph/all-query", "/graphql", aMutation), "graph/all-query takes a GraphQL query, not a GraphQL mutation", "aivault capability describe graph/all-query"},
		{post("graph/all", "/graphql", aBoth), "graph/all has no capability for a GraphQL query and mutation; it has graph/all-mutation (a GraphQL mutation), graph/all-query (a GraphQL query)", "aivault capability describe graph/all"},
		{post("graph/mix-*", "/mix", `{"jsonrpc":"2.0","method":"net_version"}`), "graph/mix-* has no capability for the JSON-RPC method net_version; it has graph/mix-call (the JSON-RPC method eth_get*), graph/mix-query (a GraphQL query)", "aivault capability describe 'graph/mix-*'"},
		{post("graph/all", "/graphql?x", aQuery), "which GraphQL operation this call is cannot be told: it has a query string", "aivault capability describe graph/all"},
		{post("graph/all-query", "/graphql", `{"query":"{a}","extensions":{}}`), `which GraphQL operation this call is cannot be told: in its body field "/extensions" is not known`, "aivault capability describe graph/all-query"},
		{api.Call{Capability: "graph/all"}, "which GraphQL operation this call is cannot be told: it has no Content-Type that says it is JSON", "give the header Content-Type: application/json"},
	} {
		err := mustRefuse(t, v, c.call, api.PolicyViolation)
		if err.Message != c.text || err.Hint != c.hint {
			t.Errorf("%q, hint %q; want %q, %q", err.Message, err.Hint, c.text, c.hint)
		}
	}
	// Who may only read is told of nothing else, whatever they send.
	uid := aivaulttest.Agent().UID
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Grants = []api.Grant{{ID: "g", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"graph/all-query"}}}
		return nil
	})
	for _, body := range []string{aMutation, aBoth, `{}`, `[]`} {
		for _, id := range []string{"graph/all", "graph/all-query", "graph/*"} {
			err := mustRefuse(t, v, post(id, "/graphql", body), api.PolicyViolation)
			if strings.Contains(err.Message+err.Hint, "all-mutation") {
				t.Errorf("%s: %q, hint %q", id, err.Message, err.Hint)
			}
		}
		mustRefuse(t, v, post("graph/all-mutation", "/graphql", body), api.CapabilityNotFound)
	}
	mustInvoke(t, v, post("graph/all", "/graphql", aQuery))
	if n := len(v.API.Seen()); n != 1 {
		t.Errorf("the API saw %d requests", n)
	}
	// Off is off: the other half does not stand in.
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Grants, tx.State.Switches = nil, []api.Switch{{Pattern: "graph/all-mutation", On: false}}
		return nil
	})
	if err := mustRefuse(t, v, post("graph/all", "/graphql", aMutation), api.PolicyViolation); err.Message != "capability graph/all-mutation is off" {
		t.Error(err.Message)
	}
	mustInvoke(t, v, post("graph/all", "/graphql", aQuery))
}

// untouched fails the test when it is read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// Nobody's body is taken into memory for a call that could not go out whatever
// it says.
func TestNoBodyIsReadForWhoMayNotCall(t *testing.T) {
	v := graphed(t, aivaulttest.Options{})
	uid := aivaulttest.Agent().UID
	for name, c := range map[string]struct {
		state func(*vault.State)
		call  func(api.Call) api.Call
		code  api.Code
	}{
		"no grant":          {func(s *vault.State) { s.GrantDefault = api.GrantDeny }, nil, api.CapabilityNotFound},
		"another context's": {func(s *vault.State) { s.Grants[0].WorkspaceID = "w" }, nil, api.CredentialNotFound},
		"another account":   {nil, func(c api.Call) api.Call { c.Credential = "other"; return c }, api.CredentialNotFound},
		"both are off":      {func(s *vault.State) { s.Switches = []api.Switch{{Pattern: "graph/*", On: false}} }, nil, api.PolicyViolation},
		"a broken policy": {func(s *vault.State) {
			s.Policies = []api.Policy{{Capability: "graph/all-query"}, {Capability: "graph/all-mutation"}}
		}, nil, api.PolicyViolation},
		"a query string": {nil, func(c api.Call) api.Call { c.Request.Path += "?a"; return c }, api.PolicyViolation},
		"another type":   {nil, func(c api.Call) api.Call { c.Request.Headers[0].Value = "text/plain"; return c }, api.PolicyViolation},
		"a coding":       {nil, func(c api.Call) api.Call { return with(c, "Content-Encoding: gzip") }, api.PolicyViolation},
		"another method": {nil, func(c api.Call) api.Call { c.Request.Method = "PUT"; return c }, api.PolicyViolation},
		"another path":   {nil, func(c api.Call) api.Call { c.Request.Path += "/x"; return c }, api.PolicyViolation},
		"too long, and said": {func(s *vault.State) {
			s.Policies = []api.Policy{{Capability: "graph/all-query", MaxRequestBodyBytes: 9}, {Capability: "graph/all-mutation", MaxRequestBodyBytes: 9}}
		}, nil, api.RequestTooLarge},
	} {
		tamper(t, v, func(tx *vault.Tx) error {
			s := tx.State
			s.GrantDefault, s.Switches, s.Policies = api.GrantAllow, nil, nil
			s.Grants = []api.Grant{{ID: "g", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"graph/*"}}}
			if name == "no grant" {
				s.Grants = nil
			}
			if c.state != nil {
				c.state(s)
			}
			return nil
		})
		for _, id := range []string{"graph/all", "graph/all-query"} {
			call := typed(id, "/graphql")
			if c.call != nil {
				call = c.call(call)
			}
			body := egress.Body{Reader: untouched{t}, Length: 10}
			if _, _, err := do(&v.Process, aivaulttest.Agent(), call, body); api.CodeOf(err) != c.code {
				t.Errorf("%s, %s: %v", name, id, err)
			}
			if e := explain(t, v, aivaulttest.Agent(), call, body); e.Allowed || e.Error.Code != c.code {
				t.Errorf("%s, %s is explained as %+v", name, id, e)
			}
		}
	}
	if _, err := v.Admin.DeleteCredential(background, aivaulttest.Operator(), "graph"); err != nil {
		t.Fatal(err)
	}
	tamper(t, v, func(tx *vault.Tx) error {
		s := tx.State
		s.GrantDefault, s.Grants, s.Switches, s.Policies = api.GrantAllow, nil, nil, nil
		return nil
	})
	for _, id := range []string{"graph/all", "graph/all-query"} {
		if _, _, err := do(&v.Process, aivaulttest.Agent(), typed(id, "/graphql"), egress.Body{Reader: untouched{t}, Length: -1}); api.CodeOf(err) != api.CredentialNotFound {
			t.Errorf("%s: %v", id, err)
		}
	}
	if n := len(v.API.Seen()); n > 0 {
		t.Errorf("the API saw %d requests", n)
	}
}

// Where one half could go out, the body is read to tell which it is, within
// the bound of those that could.
func TestHowMuchOfABodyIsReadToTellItsMember(t *testing.T) {
	v := graphed(t, aivaulttest.Options{})
	long := `{"query":"%s { a }","variables":{"x":"` + strings.Repeat("x", 100) + `"}}`
	query, mutation := fmt.Sprintf(long, "query"), fmt.Sprintf(long, "mutation")
	setPolicy(t, v, api.PolicyChange{Capability: "graph/all-query", MaxRequestBodyBytes: ptr(int64(60))})
	for _, c := range []struct {
		id, body string
		code     api.Code
	}{
		{"graph/all", mutation, ""}, {"graph/all", query, api.RequestTooLarge}, {"graph/all-query", query, api.RequestTooLarge}, {"graph/all", `{"query":"{ a }"}`, ""},
	} {
		for _, body := range []egress.Body{known(c.body), chunked(c.body)} {
			if _, _, err := do(&v.Process, aivaulttest.Agent(), typed(c.id, "/graphql"), body); api.CodeOf(err) != c.code {
				t.Errorf("%s of %d: %v", c.id, len(c.body), err)
			}
		}
		if _, _, err := do(&v.Process, aivaulttest.Agent(), post(c.id, "/graphql", c.body), egress.Body{}); api.CodeOf(err) != c.code {
			t.Errorf("%s of %d as text: %v", c.id, len(c.body), err)
		}
	}
	setPolicy(t, v, api.PolicyChange{Capability: "graph/all-mutation", MaxRequestBodyBytes: ptr(int64(70))})
	for _, body := range []egress.Body{known(mutation), chunked(mutation)} {
		_, _, err := do(&v.Process, aivaulttest.Agent(), typed("graph/all", "/graphql"), body)
		if e := api.AsError(err); api.CodeOf(err) != api.RequestTooLarge || e.Message != "graph/all takes a body of at most 70 bytes" {
			t.Error(err)
		}
	}
	for _, id := range []string{"graph/secret", "graph/secret-query"} {
		if _, _, err := do(&v.Process, aivaulttest.Agent(), typed(id, "/secret"), egress.Body{Reader: spaces{}, Length: -1}); api.CodeOf(err) != api.RequestTooLarge {
			t.Errorf("an endless body of %s: %v", id, err)
		}
		if _, _, err := do(&v.Process, aivaulttest.Agent(), typed(id, "/secret"), egress.Body{Reader: untouched{t}, Length: policy.MaxInspected + 1}); api.CodeOf(err) != api.RequestTooLarge {
			t.Errorf("a long body of %s: %v", id, err)
		}
		for _, body := range []egress.Body{
			{Reader: strings.NewReader(aQuery), Length: 400}, {Reader: strings.NewReader(aQuery), Length: 4}, {Reader: io.MultiReader(strings.NewReader(aQuery), broken{}), Length: -1},
		} {
			if _, _, err := do(&v.Process, aivaulttest.Agent(), typed(id, "/secret"), body); api.CodeOf(err) != api.InvalidRequest {
				t.Errorf("%s: %v", id, err)
			}
		}
	}
	if n := len(v.API.Seen()); n != 6 {
		t.Errorf("the API saw %d requests", n)
	}
}

// Bodies that are read to be told are counted in what each user may have in
// memory, and no longer once the calls are over.
func TestBodiesThatAreToldAreCounted(t *testing.T) {
	v := graphed(t, aivaulttest.Options{})
	const calls = 6
	reached, open, done := make(chan struct{}, calls), make(chan struct{}), make(chan error, calls)
	for range calls {
		go func() {
			body := io.MultiReader(io.LimitReader(spaces{}, 8<<20), gate{reached, open}, strings.NewReader(aBoth))
			_, _, err := do(&v.Process, aivaulttest.Agent(), typed("graph/all", "/graphql"), egress.Body{Reader: body, Length: -1})
			done <- err
		}()
	}
	refused := 0
	for waiting := 0; waiting+refused < calls; {
		select {
		case <-reached:
			waiting++
		case err := <-done:
			if refused++; api.CodeOf(err) != api.RateLimited {
				t.Errorf("refused with %v", err)
			}
		}
	}
	if refused != 2 { // 16 MiB each, of 64
		t.Errorf("%d of %d calls were refused", refused, calls)
	}
	close(open)
	for range calls - refused {
		if err := <-done; api.CodeOf(err) != api.PolicyViolation {
			t.Error(err)
		}
	}
	mustInvoke(t, v, post("graph/all", "/graphql", aQuery))
}

// What the vault says when the body is there is what counts, for the choice of
// the member, too.
func TestAMemberIsChosenByTheVaultOfTheBodysEnd(t *testing.T) {
	operator := aivaulttest.Operator()
	for name, change := range map[string]func(t *testing.T, v *aivaulttest.Aivault) api.Code{
		"the member is off": func(t *testing.T, v *aivaulttest.Aivault) api.Code {
			if _, err := v.Admin.DisableCapabilities(background, operator, api.SwitchRequest{Patterns: []string{"graph/all-mutation"}}); err != nil {
				t.Fatal(err)
			}
			return api.PolicyViolation
		},
		"the credential is gone": func(t *testing.T, v *aivaulttest.Aivault) api.Code {
			if _, err := v.Admin.DeleteCredential(background, operator, "graph"); err != nil {
				t.Fatal(err)
			}
			return api.CredentialNotFound
		},
		"the grant is gone": func(t *testing.T, v *aivaulttest.Aivault) api.Code {
			tamper(t, v, func(tx *vault.Tx) error { tx.State.GrantDefault = api.GrantDeny; return nil })
			return api.CapabilityNotFound
		},
		"only the other is granted": func(t *testing.T, v *aivaulttest.Aivault) api.Code {
			uid := aivaulttest.Agent().UID
			tamper(t, v, func(tx *vault.Tx) error {
				tx.State.Grants = []api.Grant{{ID: "g", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"graph/all-query"}}}
				return nil
			})
			return api.PolicyViolation
		},
		"the vault is locked": func(t *testing.T, v *aivaulttest.Aivault) api.Code {
			if _, err := v.Admin.Lock(background, operator); err != nil {
				t.Fatal(err)
			}
			return api.VaultLocked
		},
		"a rate is full": func(t *testing.T, v *aivaulttest.Aivault) api.Code {
			setPolicy(t, v, api.PolicyChange{Capability: "graph/all-mutation", RatePerMinute: ptr(1)})
			mustInvoke(t, v, post("graph/all", "/graphql", aMutation))
			return api.RateLimited
		},
		"nothing that matters": func(t *testing.T, v *aivaulttest.Aivault) api.Code {
			v.Create(t, "ANOTHER", "value-0123456789")
			return ""
		},
	} {
		for _, id := range []string{"graph/all", "graph/all-mutation"} {
			t.Run(name+" "+id, func(t *testing.T) {
				v := graphed(t, aivaulttest.Options{})
				g := gate{make(chan struct{}), make(chan struct{})}
				done := make(chan error, 1)
				go func() {
					body := egress.Body{Reader: io.MultiReader(strings.NewReader(aMutation[:9]), g, strings.NewReader(aMutation[9:])), Length: -1}
					_, _, err := do(&v.Process, aivaulttest.Agent(), typed(id, "/graphql"), body)
					done <- err
				}()
				select {
				case <-g.reached:
				case err := <-done:
					t.Fatalf("it ended before its body did: %v", err)
				}
				want := change(t, v)
				before := len(v.API.Seen())
				if name == "only the other is granted" && id == "graph/all-mutation" {
					want = api.CapabilityNotFound
				}
				close(g.open)
				if err := <-done; api.CodeOf(err) != want {
					t.Errorf("%v, want %q", err, want)
				}
				if seen := v.API.Seen()[before:]; want == "" && (len(seen) != 1 || string(seen[0].Body) != aMutation) || want != "" && len(seen) != 0 {
					t.Errorf("the API saw %d requests", len(seen))
				}
			})
		}
	}
}

// A grant that ends while the body is on its way permits nothing any more.
func TestAGrantThatEndsBeforeTheBodyTells(t *testing.T) {
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	v := graphed(t, aivaulttest.Options{Clock: clock})
	for _, id := range []string{"graph/all", "graph/all-query"} {
		tamper(t, v, func(tx *vault.Tx) error {
			uid := aivaulttest.Agent().UID
			tx.State.Grants = []api.Grant{{ID: "hour", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"graph/*"}, ExpiresAtMs: clock().Add(time.Hour).UnixMilli()}}
			return nil
		})
		g := gate{make(chan struct{}), make(chan struct{})}
		done := make(chan error, 1)
		go func() {
			body := egress.Body{Reader: io.MultiReader(strings.NewReader(aQuery[:9]), g, strings.NewReader(aQuery[9:])), Length: -1}
			_, _, err := do(&v.Process, aivaulttest.Agent(), typed(id, "/graphql"), body)
			done <- err
		}()
		select {
		case <-g.reached:
		case err := <-done:
			t.Fatalf("%s ended before its body did: %v", id, err)
		}
		ahead.Add(int64(2 * time.Hour))
		close(g.open)
		if err := <-done; api.CodeOf(err) != api.CapabilityNotFound {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// An explanation names the operation that was found, and the capability that
// takes it.
func TestExplainTellsTheOperation(t *testing.T) {
	v := graphed(t, aivaulttest.Options{})
	operator := aivaulttest.Operator()
	for _, c := range []struct {
		call    api.Call
		body    egress.Body
		member  string
		detail  string
		step    string // that fails
		instead string
		command string
	}{
		{post("graph/all", "/graphql", aQuery), egress.Body{}, "graph/all-query", "GraphQL query", "", "", ""},
		{typed("graph/all", "/graphql"), chunked(aMutation), "graph/all-mutation", "GraphQL mutation", "", "", ""},
		{post("graph/mix-*", "/mix", aCall), egress.Body{}, "graph/mix-call", "JSON-RPC eth_getBalance", "", "", ""},
		{get("graph/files", "/files"), egress.Body{}, "graph/files", "not limited", "", "", ""},
		{post("graph/all-query", "/graphql", aMutation), egress.Body{}, "graph/all-query", "graph/all-query takes a GraphQL query, not a GraphQL mutation", "operation", "graph/all-mutation", "aivault invoke graph/all-mutation --method POST --path /graphql …"},
		{typed("graph/all-query", "/graphql"), chunked(aMutation), "graph/all-query", "graph/all-query takes a GraphQL query, not a GraphQL mutation", "operation", "graph/all-mutation", "aivault invoke graph/all-mutation --method POST --path /graphql …"},
		{post("graph/all", "/graphql", aBoth), egress.Body{}, "", "", "member", "", "aivault capability describe graph/all"},
		{post("graph/secret", "/secret", aMutation), egress.Body{}, "graph/secret-mutation", "", "enabled", "", "aivault capability enable graph/secret-mutation"},
	} {
		e := explain(t, v, operator, c.call, c.body)
		if failing(t, e) != c.step || e.Instead != c.instead || e.Command != c.command {
			t.Errorf("%s: %+v", c.call.Capability, e)
		}
		for _, check := range e.Checks {
			if check.Name == "member" && c.member != "" && check.Detail != c.member || check.Name == "operation" && check.Detail != c.detail {
				t.Errorf("%s: %+v", c.call.Capability, check)
			}
		}
	}
	// Beyond its policy's limit, the way out is that limit.
	setPolicy(t, v, api.PolicyChange{Capability: "graph/all-query", MaxRequestBodyBytes: ptr(int64(20))})
	e := explain(t, v, operator, typed("graph/all-query", "/graphql"), chunked(aQuery))
	if failing(t, e) != "operation" || e.Command != "aivault capability policy set --capability graph/all-query --max-request-body-bytes none" {
		t.Errorf("%+v", e)
	}
	// Without a vault the registry alone tells it.
	p, err := registry.Parse([]byte(graph))
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.New(p)
	if err != nil {
		t.Fatal(err)
	}
	none := start(t, aivaulttest.Options{Registry: r})
	if e := explain(t, none, operator, post("graph/all", "/graphql", aMutation), egress.Body{}); !e.NoVault || failing(t, e) != "credential" || e.Checks[6].Detail != "graph/all-mutation" {
		t.Errorf("%+v", e)
	}
}

// A description says what bodies may ask for.
func TestDescribeNamesOperations(t *testing.T) {
	v := graphed(t, aivaulttest.Options{})
	for id, want := range map[string]string{
		"graph/all-query": "GraphQL query", "graph/twin-b": "GraphQL query, GraphQL mutation", "graph/mix-call": "JSON-RPC eth_get*", "graph/files": "", "graph/all": "GraphQL mutation, GraphQL query", "graph/half-*": "",
	} {
		d, err := v.Broker.Capability(background, aivaulttest.Operator(), id)
		if got := strings.Join(d.Allowed.Operations, ", "); err != nil || got != want {
			t.Errorf("%s: %q, %v", id, got, err)
		}
	}
}
