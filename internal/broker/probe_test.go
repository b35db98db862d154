package broker_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/strictjson"
	"moldable.sh/aivault/internal/vault"
)

// probed starts a vault in which the agent may call acme/x and openai/models
// in the workspace w1, and, where all is set, with much that it may not know.
func probed(t *testing.T, strict, all bool) *aivaulttest.Aivault {
	v := start(t, aivaulttest.Options{})
	v.Create(t, "FIRST", "makes-the-vault-0123456789")
	if all || !strict { // what is global is none of a strict caller's
		v.Create(t, "OPENAI_API_KEY", "sk-test-0123456789")
	}
	tamper(t, v, func(tx *vault.Tx) error {
		add := func(id, provider, scope string) error {
			s, err := addSecret(tx, "TOKEN", scope, "value of "+id+" 0123456789", "", "")
			c := account(id, scope, s)
			c.Provider = provider
			tx.State.Credentials = append(tx.State.Credentials, c)
			return err
		}
		capability := func(id string) {
			provider, name, _ := strings.Cut(id, "/")
			tx.State.Capabilities = append(tx.State.Capabilities, vault.Capability{
				ID: id, Provider: provider, Hosts: []string{aivaulttest.CustomHost}, Methods: []string{"GET"}, Paths: []string{"=/" + name},
			})
		}
		uid := aivaulttest.Agent().UID
		tx.State.Grants = []api.Grant{{
			ID: "g1", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"acme/x", "openai/models", "openai/batch-read"}, WorkspaceID: "w1", StrictScope: strict,
		}}
		capability("acme/x")
		tx.State.Bindings = []api.Binding{{ID: "b0", Capability: "openai/models", Credential: "openai", Scope: "workspace:w1"}}
		if err := add("acme-w1", "acme", "workspace:w1"); err != nil || !all {
			return err
		}
		capability("acme/secret")
		capability("ghost/x")
		capability("acme/broken")
		capability("acme/off")
		tx.State.Capabilities[len(tx.State.Capabilities)-2].Paths = []string{"nowhere"}
		tx.State.Switches = []api.Switch{{Pattern: "acme/off", On: false}}
		tx.State.Policies = []api.Policy{{Capability: "acme/secret", RatePerMinute: 1}, {Capability: "acme/off", MaxRequestBodyBytes: 1}}
		tx.State.Bindings = append(tx.State.Bindings,
			api.Binding{ID: "b1", Capability: "acme/x*", Credential: "acme-w2", Scope: "workspace:w2"},
			api.Binding{ID: "b2", Capability: "acme/*x", Credential: "acme-w2-b", Scope: "workspace:w2"},
			api.Binding{ID: "b3", Capability: "acme/secret", Credential: "nowhere", Scope: "global"},
		)
		other := uint32(4711)
		tx.State.Grants = append(tx.State.Grants, api.Grant{ID: "g2", Consumer: api.Consumer{UID: &other}, Capabilities: []string{"*"}})
		for _, c := range [][3]string{
			{"acme-w2", "acme", "workspace:w2"}, {"acme-w2-b", "acme", "workspace:w2"}, {"acme-g", "acme", "group:w2:g"},
			{"ghost", "ghost", "global"}, {"ghost-w1", "ghost", "workspace:w1"},
		} {
			if err := add(c[0], c[1], c[2]); err != nil {
				return err
			}
		}
		if strict {
			return add("acme", "acme", "global")
		}
		return nil
	})
	return v
}

// answers is all that the caller gets to hear.
func answers(t *testing.T, v *aivaulttest.Aivault, who grant.Caller, probes []api.Call) map[string]string {
	t.Helper()
	told := map[string]string{}
	say := func(what string, parts ...any) {
		for _, part := range parts {
			if err, isError := part.(error); isError {
				part = api.AsError(err)
			}
			text, err := strictjson.Marshal(part)
			if err != nil {
				t.Fatal(err)
			}
			told[what] += string(text) + " "
		}
	}
	list, err := v.Broker.Capabilities(background, who)
	say("list", list, err)
	providers, problems := v.Broker.Providers(background, who)
	say("status", providers, problems)
	for _, call := range probes {
		asked, err := strictjson.Marshal(call)
		if err != nil {
			t.Fatal(err)
		}
		planned, _, failure := callAs(v, who, call)
		say("invoke "+string(asked), planned, failure)
		explanation, failure := v.Broker.Explain(background, who, call, egress.Body{})
		say("explain "+string(asked), explanation, failure)
		detail, failure := v.Broker.Capability(background, who, call.Capability)
		say("describe "+call.Capability, detail, failure)
	}
	return told
}

func probes(ids ...string) []api.Call {
	var list []api.Call
	for _, id := range ids {
		for _, context := range []grant.Scope{{}, {Workspace: "w1"}, {Workspace: "w1", Group: "g"}, {Workspace: "w2"}} {
			for _, named := range []string{"", "acme", "acme-w1", "acme-w2", "ghost-w1", "openai", "nowhere"} {
				for _, r := range []api.Request{{}, {Method: "GET", Path: "/v1/models"}, {Method: "PUT", Path: "/..", Body: new("{")}} {
					list = append(list, api.Call{Capability: id, Credential: named, WorkspaceID: context.Workspace, GroupID: context.Group, Request: r})
				}
			}
		}
	}
	return list
}

// What the caller has no grant for answers exactly as what is not there:
// nothing that it can ask tells the two vaults apart.
func TestWhatIsNotGrantedIsNotThere(t *testing.T) {
	for name, strict := range map[string]bool{"a workspace": false, "a workspace, strictly": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := probes("acme/x", "acme/secret", "acme/broken", "acme/off", "ghost/x", "acme/*", "ghost/*", "*", "openai/models", "openai/batch-read", "openai/chat-completions", "")
			full, bare := probed(t, strict, true), probed(t, strict, false)
			got, want := answers(t, full, aivaulttest.Agent(), all), answers(t, bare, aivaulttest.Agent(), all)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what is not granted shows (-not there +not granted):\n%s", diff)
			}
			// The test would be nothing if all were refused in both.
			planned, _, err := callAs(full, aivaulttest.Agent(), api.Call{Capability: "acme/x", WorkspaceID: "w1", Request: api.Request{Method: "GET", Path: "/x"}})
			if err != nil || planned.Credential != "acme-w1" {
				t.Errorf("%v, %v", planned, err)
			}
			inside := get("openai/models", "/v1/models")
			inside.WorkspaceID = "w1"
			if _, _, err := callAs(full, aivaulttest.Agent(), inside); strict != (api.CodeOf(err) == api.CredentialNotFound) || strict != (err != nil) {
				t.Errorf("the global account: %v", err)
			} else if strict && strings.Contains(err.Error(), "b0") {
				t.Errorf("%v names a binding", err)
			}
			operator := answers(t, full, aivaulttest.Operator(), all)
			if cmp.Equal(operator, answers(t, bare, aivaulttest.Operator(), all)) {
				t.Error("the operator sees no difference either")
			}
		})
	}
}

// An id of the registry that is not granted answers as one that is not in it.
func TestTheRegistryTellsNothingOfGrants(t *testing.T) {
	v := probed(t, false, true)
	known := answers(t, v, aivaulttest.Agent(), probes("openai/chat-completions"))
	for what, told := range answers(t, v, aivaulttest.Agent(), probes("openai/no-such-id")) {
		told = strings.ReplaceAll(told, "openai/no-such-id", "openai/chat-completions")
		if other := strings.ReplaceAll(what, "openai/no-such-id", "openai/chat-completions"); known[other] != told {
			t.Errorf("%s: %s\nbut of what is not there: %s", other, known[other], told)
		}
	}
	if err := mustRefuse(t, v, get("openai/chat-completions", "/"), api.CapabilityNotFound); err.Hint == "" {
		t.Error("no hint")
	}
}

// A caller without any grant sees nothing where that is the default, and all
// of the registry where it is not.
func TestTheDefaultOfGrants(t *testing.T) {
	v := probed(t, false, true)
	stranger := grant.Caller{UID: 3000, GID: 3000, Groups: []uint32{3000}}
	list, err := v.Broker.Capabilities(background, stranger)
	if err != nil || len(list.Capabilities) < 10 || len(list.Sets) == 0 || len(list.Available) == 0 {
		t.Fatalf("%d capabilities, %d sets, %d available, %v", len(list.Capabilities), len(list.Sets), len(list.Available), err)
	}
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.GrantDefault = api.GrantDeny
		return nil
	})
	list, err = v.Broker.Capabilities(background, stranger)
	if err != nil || len(list.Capabilities)+len(list.Sets)+len(list.Available) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if providers, problems := v.Broker.Providers(background, stranger); len(providers)+len(problems) != 0 {
		t.Errorf("%v %v", providers, problems)
	}
	if _, err := v.Broker.Capability(background, stranger, "openai/models"); api.CodeOf(err) != api.CapabilityNotFound {
		t.Errorf("%v", err)
	}
	if _, _, err := callAs(v, stranger, get("openai/models", "/v1/models")); api.CodeOf(err) != api.CapabilityNotFound {
		t.Errorf("%v", err)
	}
}
