package broker_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

// tenants is a vault in which there is nothing for everyone: two workspaces
// have an account at openai each, and one group has one at acme.
func tenants(t *testing.T, handler http.Handler) *aivaulttest.Aivault {
	t.Helper()
	v := start(t, aivaulttest.Options{Handler: handler})
	v.Create(t, "FIRST", "makes-the-vault-0123456789")
	tamper(t, v, func(tx *vault.Tx) error {
		for _, w := range []string{"w1", "w2"} {
			id, err := addSecret(tx, "OPENAI_API_KEY", "workspace:"+w, "sk-"+w+"-0123456789", "openai", "secret")
			if err != nil {
				return err
			}
			tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
				ID: "openai-" + w, Provider: "openai", Scope: "workspace:" + w, Secrets: map[string]string{"secret": id},
			})
		}
		id, err := addSecret(tx, "TOKEN", "group:w1:g", "token-of-g-0123456789", "", "")
		tx.State.Credentials = append(tx.State.Credentials, account("acme-g", "group:w1:g", id))
		tx.State.Capabilities = acmeCapabilities()
		return err
	})
	return v
}

func summary(t *testing.T, v *aivaulttest.Aivault, who grant.Caller, id string) *api.CapabilitySummary {
	t.Helper()
	list, err := v.Broker.Capabilities(background, who)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list.Capabilities, func(c api.CapabilitySummary) bool { return c.ID == id })
	if i < 0 {
		return nil
	}
	return &list.Capabilities[i]
}

// What is ready in some scope is told to the operator, to whom is granted that
// scope, and to nobody else.
func TestReadyInAScope(t *testing.T) {
	v := tenants(t, nil)
	uid := uint32(3000)
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Grants = []api.Grant{{ID: "g", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"openai/*", "acme/*"}, WorkspaceID: "w1"}}
		tx.State.Policies = []api.Policy{{Capability: "openai/models", RatePerMinute: 5}}
		return nil
	})
	limited := grant.Caller{UID: uid, GID: uid, Groups: []uint32{uid}}
	for _, c := range []struct {
		who    grant.Caller
		id     string
		ready  bool
		reason string
	}{
		{aivaulttest.Operator(), "openai/models", true, "ready in workspace:w1 and workspace:w2"},
		{aivaulttest.Operator(), "acme/x", true, "ready in group:w1:g"},
		{aivaulttest.Operator(), "trello/boards-read", false, "waiting for TRELLO_API_KEY and TRELLO_TOKEN"},
		{limited, "openai/models", true, "ready in workspace:w1"},
		{limited, "acme/x", true, "ready in group:w1:g"},
		{aivaulttest.Agent(), "openai/models", false, "waiting for OPENAI_API_KEY"},
		{aivaulttest.Agent(), "acme/x", false, "waiting for a credential of acme"},
	} {
		s := summary(t, v, c.who, c.id)
		if s == nil || s.Ready != c.ready || s.Reason != c.reason {
			t.Errorf("uid %d: %s: %+v, want %v, %q", c.who.UID, c.id, s, c.ready, c.reason)
		}
		d, err := v.Broker.Capability(background, c.who, c.id)
		if err != nil || d.Ready != c.ready || d.Reason != c.reason || (d.Policy != nil) != (c.who.Operator && c.id == "openai/models") {
			t.Errorf("uid %d: %s is described as %+v, %v", c.who.UID, c.id, d, err)
		}
	}
	if s := summary(t, v, limited, "trello/boards-read"); s != nil {
		t.Errorf("%+v is not granted", s)
	}
	for _, c := range []struct {
		who  grant.Caller
		want string
	}{{aivaulttest.Operator(), "acme true openai true"}, {limited, "acme true openai true"}, {aivaulttest.Agent(), ""}} {
		providers, _ := v.Broker.Providers(background, c.who)
		var got []string
		for _, p := range providers {
			got = append(got, p.Provider, map[bool]string{true: "true", false: "false"}[p.Ready])
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("uid %d sees the providers %q, want %q", c.who.UID, got, c.want)
		}
	}
}

// Four tenants are named by three and a rest, and what is missing is asked for
// in the scope in which it is missing.
func TestManyScopesAndOneMissing(t *testing.T) {
	v := tenants(t, nil)
	tamper(t, v, func(tx *vault.Tx) error {
		for _, w := range []string{"w3", "w4", "w5"} {
			id, err := addSecret(tx, "OPENAI_API_KEY", "workspace:"+w, "sk-"+w+"-0123456789", "openai", "secret")
			if err != nil {
				return err
			}
			tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
				ID: "openai-" + w, Provider: "openai", Scope: "workspace:" + w, Secrets: map[string]string{"secret": id},
			})
		}
		uid := uint32(3000)
		tx.State.Grants = []api.Grant{{ID: "g", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"stripe/*"}, WorkspaceID: "w1"}}
		return nil
	})
	if s := summary(t, v, aivaulttest.Operator(), "openai/models"); s.Reason != "ready in workspace:w1, workspace:w2, workspace:w3 and others" {
		t.Errorf("%q", s.Reason)
	}
	list, err := v.Broker.Capabilities(background, grant.Caller{UID: 3000})
	if err != nil || len(list.Capabilities) == 0 {
		t.Fatal(err)
	}
	d, err := v.Broker.Capability(background, grant.Caller{UID: 3000}, list.Capabilities[0].ID)
	if err != nil || !slices.Equal(d.Setup.Commands, []string{"aivault secrets create --name STRIPE_API_KEY --workspace-id w1"}) {
		t.Errorf("%q, %v", d.Setup.Commands, err)
	}
}

// A set is described by what its members are, as far as the caller may know.
func TestASetIsDescribed(t *testing.T) {
	v := shelf(t)
	uid := aivaulttest.Agent().UID
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Grants = []api.Grant{{ID: "g", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"github/users-read", "acme/notes-*"}}}
		return nil
	})
	for _, c := range []struct {
		who     grant.Caller
		members []string
		path    string
	}{
		{aivaulttest.Operator(), []string{"github/user-read", "github/users-read"}, "/user"},
		{aivaulttest.Agent(), []string{"github/users-read"}, ""},
	} {
		d, err := v.Broker.Capability(background, c.who, "github/users")
		if err != nil || !slices.Equal(d.Members, c.members) || d.Call.Defaults.Path != c.path || !d.Ready || d.Access != "read" || d.Description == "" {
			t.Errorf("uid %d: %+v, %v", c.who.UID, d, err)
		}
		list, err := v.Broker.Capabilities(background, c.who)
		i := slices.IndexFunc(list.Sets, func(s api.CapabilitySet) bool { return s.ID == "github/users" })
		if err != nil || i < 0 || !slices.Equal(list.Sets[i].Members, c.members) || !list.Sets[i].Ready {
			t.Errorf("uid %d: %+v, %v", c.who.UID, list.Sets, err)
		}
	}
	d, err := v.Broker.Capability(background, aivaulttest.Agent(), "acme/*")
	if err != nil || !slices.Equal(d.Members, []string{"acme/notes-private", "acme/notes-read", "acme/notes-write"}) ||
		!slices.Equal(d.Allowed.Methods, []string{"GET", "POST"}) || d.Origin != "custom" {
		t.Errorf("%+v, %v", d, err)
	}
}

// An answer is scrubbed of what calls in its context may send to that host,
// whoever makes the call: what is attached to the group too, and what was.
func TestWhatIsAttachedIsScrubbed(t *testing.T) {
	v := tenants(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "token-of-g-0123456789 token-of-h-0123456789 token-of-w-0123456789")
	}))
	attach := func(groups ...string) {
		tamper(t, v, func(tx *vault.Tx) error {
			for i := range tx.State.Secrets {
				if s := &tx.State.Secrets[i]; s.Name == "LENT" {
					s.Groups = groups
				}
			}
			return nil
		})
		v.Broker.Observe(background)
	}
	tamper(t, v, func(tx *vault.Tx) error {
		lent, err := addSecret(tx, "LENT", "group:w1:h", "token-of-h-0123456789", "", "")
		if err != nil {
			return err
		}
		wide, err := addSecret(tx, "WIDE", "workspace:w1", "token-of-w-0123456789", "", "")
		tx.State.Credentials = append(tx.State.Credentials, account("acme-h", "group:w1:h", lent), account("acme-w", "workspace:w1", wide))
		uid := aivaulttest.Agent().UID
		tx.State.Grants = []api.Grant{{ID: "g", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"acme/x"}, WorkspaceID: "w1", GroupID: "g", StrictScope: true}}
		return err
	})
	call := get("acme/x", "/x")
	call.WorkspaceID, call.GroupID, call.Credential = "w1", "g", "acme-g"
	for _, c := range []struct {
		groups []string
		want   string
	}{
		{nil, "[redacted] token-of-h-0123456789 [redacted]"},
		{[]string{"group:w1:g"}, "[redacted] [redacted] [redacted]"},
		{nil, "[redacted] [redacted] [redacted]"}, // the API may have it from before
	} {
		attach(c.groups...)
		if got := mustInvoke(t, v, call); got != c.want {
			t.Errorf("attached to %v: %q, want %q", c.groups, got, c.want)
		}
	}
}

// What the operator of a custom provider says is public stays in its answers.
func TestPublicPartsOfACustomProvider(t *testing.T) {
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "account-0123456789 and token-0123456789")
	})})
	v.Create(t, "FIRST", "makes-the-vault-0123456789")
	tamper(t, v, func(tx *vault.Tx) error {
		id, err := addSecret(tx, "ACCOUNT", "global", "account-0123456789", "", "")
		if err != nil {
			return err
		}
		token, err := addSecret(tx, "TOKEN", "global", "token-0123456789", "", "")
		c := account("acme", "global", id, token)
		c.PublicParts = []string{"a"}
		tx.State.Credentials, tx.State.Capabilities = []vault.Credential{c}, acmeCapabilities()
		return err
	})
	if got := mustInvoke(t, v, get("acme/x", "/x")); got != "account-0123456789 and [redacted]" {
		t.Errorf("answered %q", got)
	}
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Credentials[0].PublicParts = []string{"z"}
		return nil
	})
	mustRefuse(t, v, get("acme/x", "/x"), api.PolicyViolation)
}

// The operator is told of every entry that does not work, and that tenants are
// no more apart than callers are honest; nobody else is.
func TestProblemsNameWhatIsWrong(t *testing.T) {
	v := tenants(t, nil)
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Bindings = []api.Binding{
			{ID: "b1", Capability: "acme/x", Credential: "acme-g", Scope: "global"},
			{ID: "b2", Capability: "no pattern", Credential: "acme-g", Scope: "global"},
			{ID: "b3", Capability: "acme/*", Credential: "nowhere", Scope: "global"},
			{ID: "b4", Capability: "acme/*", Credential: "acme-g", Scope: "workspace:w2"},
		}
		tx.State.Policies = []api.Policy{
			{Capability: "acme/x", MaxRequestBodyBytes: 1}, {Capability: "acme/y", MaxRequestBodyBytes: -1}, {Capability: "acme/none", MaxRequestBodyBytes: 1},
		}
		uid := uint32(1)
		tx.State.Grants = []api.Grant{{ID: "g1", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"acme/*", "no pattern"}}}
		tx.State.Credentials = append(tx.State.Credentials, account("bad", "workspace:w9", tx.State.Secrets[1].ID))
		return nil
	})
	_, problems := v.Broker.Providers(background, aivaulttest.Operator())
	var named []string
	for _, p := range problems {
		named = append(named, p.What)
		if p.Why == "" || !strings.HasPrefix(p.Hint, "aivault ") {
			t.Errorf("%+v says too little", p)
		}
	}
	want := []string{"credential bad", "binding b2", "binding b3", "binding b4", "policy acme/none", "policy acme/y", "grant g1", "grants"}
	if !slices.Equal(named, want) {
		t.Errorf("problems %q, want %q", named, want)
	}
	if hint := problems[len(problems)-1].Hint; hint != "aivault grant default deny" {
		t.Errorf("hint %q", hint)
	}
	// Each breaks its own calls alone.
	call := get("acme/x", "/x")
	call.WorkspaceID, call.GroupID = "w1", "g"
	mustInvoke(t, v, call)
	call.Capability, call.Request.Path = "acme/y", "/y"
	mustRefuse(t, v, call, api.CredentialNotFound) // bound to nowhere
	if _, problems := v.Broker.Providers(background, aivaulttest.Agent()); len(problems) != 0 {
		t.Errorf("the agent is told of %v", problems)
	}
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.GrantDefault = api.GrantDeny
		return nil
	})
	_, problems = v.Broker.Providers(background, aivaulttest.Operator())
	if last := problems[len(problems)-1].What; last == "grants" {
		t.Error("tenants are said to be open under deny")
	}
}
