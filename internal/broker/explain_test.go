package broker_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

func explain(t testing.TB, v *aivaulttest.Aivault, who grant.Caller, call api.Call, body egress.Body) api.Explanation {
	t.Helper()
	e, err := v.Broker.Explain(background, who, call, body)
	if err != nil {
		t.Fatalf("explain %s: %v", call.Capability, err)
	}
	return e
}

// failing is the step that failed, with what comes before passed and what
// comes after not reached.
func failing(t testing.TB, e api.Explanation) string {
	t.Helper()
	name := ""
	for _, c := range e.Checks {
		switch {
		case c.Name == "" || c.Result != "not reached" && c.Detail == "":
			t.Errorf("a check says too little: %+v", c)
		case c.Result == "failed" && name == "":
			name = c.Name
		case c.Result == "passed" && name == "" || c.Result == "not reached" && name != "":
		default:
			t.Errorf("%s is %q after %q failed", c.Name, c.Result, name)
		}
	}
	return name
}

func TestExplainNamesTheFirstCheckThatFails(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	acme(t, v, "acme-token-0123456789", bearer())
	for _, c := range []api.CapabilityCreate{
		{ID: "acme/items-read", Methods: []string{"GET"}, Paths: []string{"/items"}},
		{ID: "acme/items-write", Methods: []string{"POST"}, Paths: []string{"/items"}},
		{ID: "acme/item", Methods: []string{"GET"}, Paths: []string{"=/items/*"}},
		{ID: "acme/off", Methods: []string{"GET"}, Paths: []string{"=/items/7"}},
	} {
		capability(t, v, c)
	}
	if _, err := v.Admin.DisableCapabilities(background, aivaulttest.Operator(), api.SwitchRequest{Patterns: []string{"acme/off"}}); err != nil {
		t.Fatal(err)
	}
	setPolicy(t, v, api.PolicyChange{
		Capability: "acme/all", MaxRequestBodyBytes: ptr(int64(100)), AllowQuery: []string{"page"}, DenyQuery: []string{"drop"},
		RequireJSON: []api.RequireJSON{{Pointer: "/model", Values: []string{"small"}}},
	})
	setPolicy(t, v, api.PolicyChange{Capability: "acme/item", RatePerCallerPerMinute: ptr(1)})
	setPolicy(t, v, api.PolicyChange{Capability: "acme/items-read", RatePerMinute: ptr(1)})
	mustInvoke(t, v, get("acme/items-read", "/items"))
	if _, _, err := do(&v.Process, aivaulttest.Operator(), get("acme/item", "/items/1"), egress.Body{}); err != nil {
		t.Fatal(err)
	}
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Policies = append(tx.State.Policies, api.Policy{Capability: "acme/items-write", MaxRequestBodyBytes: -1})
		return nil
	})
	in := func(c api.Call, workspace, group string) api.Call {
		c.WorkspaceID, c.GroupID = workspace, group
		return c
	}
	late := get("acme/all", "/")
	late.TimeoutMs = -1
	other := get("acme/items-read", "/items")
	other.Credential = "other"
	for _, c := range []struct {
		name    string
		call    api.Call
		body    egress.Body
		code    api.Code
		step    string
		instead string
		command string
	}{
		{"fine", get("openai/models", "/v1/models"), egress.Body{}, "", "", "", ""},
		{"timeout", late, egress.Body{}, api.InvalidRequest, "request", "", ""},
		{"context", in(get("acme/all", "/"), "", "g"), egress.Body{}, api.InvalidRequest, "request", "", ""},
		{"unknown", get("nope/nope", "/v1/models"), egress.Body{}, api.CapabilityNotFound, "capability", "", "aivault capability list"},
		{"unknown of a provider", get("openai/list-models", "/v1/models"), egress.Body{}, api.CapabilityNotFound, "capability", "openai/models", "aivault invoke openai/models --method GET --path /v1/models"},
		{"unknown without a path", api.Call{Capability: "openai/list-models"}, egress.Body{}, api.CapabilityNotFound, "capability", "", "aivault capability list --provider openai"},
		{"unknown of a custom provider", in(get("acme/nothing", "/items/1?a=b"), "w", ""), egress.Body{}, api.CapabilityNotFound, "capability", "", "aivault capability list"},
		{"no default", api.Call{Capability: "acme/all"}, egress.Body{}, api.InvalidRequest, "canonical request", "", "aivault capability describe acme/all"},
		{"a bad path", get("acme/all", "/a/../b"), egress.Body{}, "", "canonical request", "", ""},
		{"set", get("acme/items-*", "/other"), egress.Body{}, api.PolicyViolation, "member", "", ""},
		{"off", get("acme/off", "/items/7"), egress.Body{}, api.PolicyViolation, "enabled", "", "aivault capability enable acme/off"},
		{"no credential", get("github/user-read", "/user"), egress.Body{}, api.CredentialNotFound, "credential", "", "aivault secrets create --name GITHUB_TOKEN"},
		{"another credential", other, egress.Body{}, api.CredentialNotFound, "credential", "", "aivault credential list"},
		{"method", post("openai/models", "/v1/chat/completions", `{"model":"it's"}`), egress.Body{}, api.PolicyViolation, "rules", "openai/chat-completions", "aivault invoke openai/chat-completions --method POST --path /v1/chat/completions …"},
		{"path", get("openai/chat-completions", "/v1/models?x=1&y=2"), egress.Body{}, api.PolicyViolation, "rules", "openai/models", "aivault invoke openai/models --method GET --path '/v1/models?x=1&y=2'"},
		{"the broken policy", post("acme/items-write", "/items", ""), egress.Body{}, api.PolicyViolation, "policy", "", "aivault capability policy clear --capability acme/items-write"},
		{"denied query", get("acme/all", "/?drop=1"), egress.Body{}, api.PolicyViolation, "query", "", "aivault capability policy set --capability acme/all --allow-query none --deny-query none"},
		{"query that is not allowed", get("acme/all", "/?other=1"), egress.Body{}, api.PolicyViolation, "query", "", "aivault capability policy set --capability acme/all --allow-query none"},
		{"size", post("acme/all", "/", ""), known(strings.Repeat("x", 101)), api.RequestTooLarge, "body size", "", "aivault capability policy set --capability acme/all --max-request-body-bytes 101"},
		{"size of text", post("acme/all", "/", strings.Repeat("x", 102)), egress.Body{}, api.RequestTooLarge, "body size", "", "aivault capability policy set --capability acme/all --max-request-body-bytes 102"},
		{"fields", post("acme/all", "/", `{"model":"large"}`), egress.Body{}, api.PolicyViolation, "body fields", "", "aivault capability policy set --capability acme/all --require-json-field none"},
		{"rate", get("acme/items-read", "/items"), egress.Body{}, api.RateLimited, "rate", "", "aivault capability policy set --capability acme/items-read --rate-limit-per-minute none"},
		{"rate of the caller", get("acme/item", "/items/1"), egress.Body{}, api.RateLimited, "rate", "", "aivault capability policy set --capability acme/item --rate-limit-per-minute none --per-caller"},
	} {
		records := len(v.Records(t))
		seen := len(v.API.Seen())
		e := explain(t, v, aivaulttest.Operator(), c.call, c.body)
		if e.Allowed != (c.step == "") || failing(t, e) != c.step || c.code != "" && e.Error.Code != c.code {
			t.Errorf("%s: %+v, want %q at %q", c.name, e, c.code, c.step)
			continue
		}
		if e.Instead != c.instead || e.Command != c.command {
			t.Errorf("%s: instead %q and command %q; want %q and %q", c.name, e.Instead, e.Command, c.instead, c.command)
		}
		if len(v.Records(t)) != records || len(v.API.Seen()) != seen {
			t.Errorf("%s: asking left a trace", c.name)
		}
	}
}

// A body that one candidate read in part is no longer there for another.
func TestNoCapabilityIsNamedForHalfABody(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	for id, most := range map[string]int64{"acme/a": 10, "acme/all": 10, "acme/b": 1000} {
		if id != "acme/all" {
			capability(t, v, api.CapabilityCreate{ID: id, Methods: []string{"POST"}, Paths: []string{"/"}})
		}
		setPolicy(t, v, api.PolicyChange{Capability: id, MaxRequestBodyBytes: &most, RequireJSON: []api.RequireJSON{{Pointer: "/m", Values: []string{"1"}}}})
	}
	call := with(api.Call{Capability: "acme/none", Request: api.Request{Method: "POST", Path: "/x"}}, "Content-Type: application/json")
	for text, want := range map[string]string{`{"m":1}`: "acme/a", `{"m":1}             `: "", `-----------{"m":1}`: ""} {
		if e := explain(t, v, aivaulttest.Operator(), call, chunked(text)); e.Error.Code != api.CapabilityNotFound || e.Instead != want {
			t.Errorf("%q: %+v", text, e)
		}
	}
}

func TestOnlyTheOperatorIsToldWhy(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	ask := func(call api.Call, want api.Explanation) {
		t.Helper()
		if d := cmp.Diff(want, explain(t, v, aivaulttest.Agent(), call, egress.Body{}), cmp.AllowUnexported(api.Error{})); d != "" {
			t.Error(d)
		}
	}
	ask(get("openai/models", "/v1/models"), api.Explanation{Allowed: true})
	ask(get("openai/models", "/v1/files"), api.Explanation{Error: &api.Error{Code: api.PolicyViolation}})
	ask(get("openai/nothing", "/v1/files"), api.Explanation{Error: &api.Error{Code: api.CapabilityNotFound}})
}

func TestExplainKnowsTheVaultsState(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	e := explain(t, v, aivaulttest.Operator(), get("openai/models", "/v1/models"), egress.Body{})
	if e.Allowed || !e.NoVault || e.Error.Code != api.CredentialNotFound || failing(t, e) != "credential" {
		t.Errorf("without a vault: %+v", e)
	}
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	if _, err := v.Admin.Lock(background, aivaulttest.Operator()); err != nil {
		t.Fatal(err)
	}
	e = explain(t, v, aivaulttest.Operator(), get("openai/models", "/v1/models"), egress.Body{})
	if e.Allowed || e.Error.Code != api.VaultLocked || failing(t, e) != "vault" || !strings.HasPrefix(e.Command, "aivault unlock") {
		t.Errorf("%+v", e)
	}
	refusing := start(t, aivaulttest.Options{Refuse: api.Errorf(api.PolicyViolation, "a variable is set").WithHint("unset it")})
	e = explain(t, refusing, aivaulttest.Operator(), get("openai/models", "/v1/models"), egress.Body{})
	if e.Allowed || e.Error.Code != api.PolicyViolation || failing(t, e) != "process" || e.Command != "" {
		t.Errorf("%+v", e)
	}
}

func TestExplainSaysWhichAccountAndWhy(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	v.Create(t, "ACME_SECOND", "acme-second-0123456789")
	credential(t, v, api.CredentialCreate{
		ID: "acme2", Provider: "acme", SecretRefs: map[string]string{"secret": "ACME_SECOND"}, Auth: ptr(bearer()), Hosts: []string{aivaulttest.CustomHost},
	})
	e := explain(t, v, aivaulttest.Operator(), get("acme/all", "/x"), egress.Body{})
	if e.Allowed || e.Error.Code != api.CredentialAmbiguous || failing(t, e) != "credential" || !strings.Contains(e.Command, "--credential") {
		t.Errorf("%+v", e)
	}
	bound, err := v.Admin.Bind(background, aivaulttest.Operator(), api.BindingCreate{Capability: "acme/*", Credential: "acme2"})
	if err != nil {
		t.Fatal(err)
	}
	e = explain(t, v, aivaulttest.Operator(), get("acme/*", "/x"), egress.Body{})
	if !e.Allowed || e.Binding != bound.ID || e.Set != "acme/*" || e.Planned.Capability != "acme/all" || e.Planned.Credential != "acme2" {
		t.Errorf("%+v", e)
	}
	// The record of a call says the same.
	if _, _, err := v.Invoke(get("acme/*", "/x")); err != nil {
		t.Fatal(err)
	}
	allowed := aivaulttest.Events(v.Records(t), "call.allowed", "call.finished")
	for _, r := range allowed {
		if r["capability"] != "acme/all" || r["set"] != "acme/*" || r["binding"] != bound.ID || r["credential"] != "acme2" {
			t.Errorf("the log says %v", r)
		}
	}
	if len(allowed) != 2 {
		t.Errorf("%d records", len(allowed))
	}
	// A binding that leads nowhere is named too, and so is the set.
	if _, err := v.Admin.DeleteCredential(background, aivaulttest.Operator(), "acme2"); err != nil {
		t.Fatal(err)
	}
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Bindings = []api.Binding{{ID: "b-lost", Capability: "acme/*", Credential: "gone", Scope: "global"}}
		return nil
	})
	if _, _, err := v.Invoke(get("acme/*", "/x")); api.CodeOf(err) != api.CredentialNotFound {
		t.Fatal(err)
	}
	refused := aivaulttest.Events(v.Records(t), "call.refused")
	if r := refused[len(refused)-1]; r["set"] != "acme/*" || r["capability"] != "acme/all" || r["provider"] != "acme" || r["binding"] != "b-lost" {
		t.Errorf("the log says %v", r)
	}
}

func TestGrantsAreRecorded(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	tamper(t, v, func(tx *vault.Tx) error {
		for _, id := range []string{"one", "two", "three"} {
			tx.State.Grants = append(tx.State.Grants, api.Grant{ID: id, Consumer: api.Consumer{UID: ptr(aivaulttest.Agent().UID)}, Capabilities: []string{"acme/*"}})
		}
		tx.State.Grants[2].Capabilities = []string{"acme/other"}
		for i := range 20 {
			tx.State.Grants = append(tx.State.Grants, api.Grant{ID: "many" + string(rune('a'+i)), Consumer: api.Consumer{UID: ptr(uint32(7))}, Capabilities: []string{"*"}})
		}
		return nil
	})
	mustInvoke(t, v, get("acme/all", "/x"))
	for _, r := range aivaulttest.Events(v.Records(t), "call.allowed", "call.finished") {
		if ids, _ := r["grants"].([]any); len(ids) != 2 || ids[0] != "one" || ids[1] != "two" {
			t.Errorf("the log says %v", r["grants"])
		}
	}
	if _, _, err := do(&v.Process, as(7), get("acme/all", "/x"), egress.Body{}); err != nil {
		t.Fatal(err)
	}
	allowed := aivaulttest.Events(v.Records(t), "call.allowed")
	if ids, _ := allowed[len(allowed)-1]["grants"].([]any); len(ids) != 16 || ids[0] != "manya" {
		t.Errorf("the log says %v", ids)
	}
}

// What a caller has no grant for answers as what does not exist: in every
// word, and to whoever asks whether it would.
func TestNotGrantedIsNotThere(t *testing.T) {
	v := start(t, aivaulttest.Options{})
	acme(t, v, "acme-token-0123456789", bearer())
	v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	capability(t, v, api.CapabilityCreate{ID: "acme/hidden", Methods: []string{"GET"}, Paths: []string{"/"}})
	capability(t, v, api.CapabilityCreate{ID: "acme/seen", Methods: []string{"GET"}, Paths: []string{"/"}})
	capability(t, v, api.CapabilityCreate{ID: "hidden/hidden", Provider: "acme", Methods: []string{"GET"}, Paths: []string{"/"}})
	tamper(t, v, func(tx *vault.Tx) error {
		id, err := addSecret(tx, "ACME_W", "workspace:w", "acme-w-0123456789", "", "")
		if err != nil {
			return err
		}
		tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
			ID: "acme-w", Provider: "acme", Scope: "workspace:w", Secrets: map[string]string{"secret": id}, Auth: ptr(bearer()), Hosts: []string{aivaulttest.CustomHost},
		})
		tx.State.Policies = []api.Policy{{Capability: "acme/hidden", RatePerMinute: -1}}
		tx.State.Switches = []api.Switch{{Pattern: "openai/files", On: false}}
		tx.State.Grants = []api.Grant{{ID: "g", Consumer: api.Consumer{UID: ptr(aivaulttest.Agent().UID)}, Capabilities: []string{"acme/seen"}, WorkspaceID: "v"}}
		return nil
	})
	in := func(c api.Call, workspace, credential string) api.Call {
		c.WorkspaceID, c.Credential = workspace, credential
		return c
	}
	for name, pair := range map[string][2]api.Call{
		"a custom capability":        {get("acme/hidden", "/x"), get("acme/nothere", "/x")},
		"of a provider of its own":   {get("hidden/hidden", "/x"), get("nothere/hidden", "/x")},
		"with a bad path":            {get("acme/hidden", "/../x"), get("acme/nothere", "/../x")},
		"without a path":             {{Capability: "acme/hidden"}, {Capability: "acme/nothere"}},
		"a registry capability":      {get("openai/models", "/v1/models"), get("openai/nothere", "/v1/models")},
		"one that is off":            {get("openai/files", "/v1/files"), get("openai/nothere", "/v1/files")},
		"one without credential":     {get("github/user-read", "/user"), get("github/nothere", "/user")},
		"a set":                      {get("openai/*", "/v1/models"), get("openai/nothere*", "/v1/models")},
		"a set of a custom provider": {get("acme/h*", "/x"), get("acme/nothere*", "/x")},
		"a context with an account":  {in(get("acme/seen", "/x"), "w", ""), in(get("acme/seen", "/x"), "nothere", "")},
		"a context and its account":  {in(get("acme/seen", "/x"), "w", "acme-w"), in(get("acme/seen", "/x"), "w", "nothere")},
		"no context":                 {in(get("acme/seen", "/x"), "", "acme"), in(get("acme/seen", "/x"), "", "nothere")},
		"another context's account":  {in(get("acme/seen", "/x"), "v", "acme-w"), in(get("acme/seen", "/x"), "v", "nothere")},
		"another provider's account": {in(get("acme/seen", "/x"), "v", "openai"), in(get("acme/seen", "/x"), "v", "nothere")},
	} {
		words := func(c api.Call) string {
			_, _, err := do(&v.Process, aivaulttest.Agent(), c, egress.Body{})
			e := api.AsError(err)
			if e == nil {
				t.Fatalf("%s: %+v went out", name, c)
			}
			if a := explain(t, v, aivaulttest.Agent(), c, egress.Body{}); a.Allowed || a.Error.Code != e.Code || a.Error.Message != "" {
				t.Errorf("%s: explained as %+v, refused with %v", name, a, e)
			}
			text := string(e.Code) + "|" + e.Message + "|" + e.Hint
			text = strings.ReplaceAll(text, c.Capability, "NAME")
			if c.Credential != "" {
				text = strings.ReplaceAll(text, `"`+c.Credential+`"`, "NAME")
			}
			if c.WorkspaceID == "w" || c.WorkspaceID == "nothere" {
				text = strings.NewReplacer("workspace:"+c.WorkspaceID, "workspace:W", "--workspace-id "+c.WorkspaceID, "--workspace-id W").Replace(text)
			}
			return text
		}
		if there, nothere := words(pair[0]), words(pair[1]); there != nothere {
			t.Errorf("%s:\n%s\n%s", name, there, nothere)
		}
	}
	mustInvoke(t, v, in(get("acme/seen", "/x"), "v", ""))
}
