package admin_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"moldable.sh/aivault/internal/admin"
	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

func TestMain(m *testing.M) {
	if os.Getenv("AIVAULT_TEST_FULL") != "1" {
		// Each check makes and syncs dozens of changes.
		if err := flag.Set("rapid.checks", "25"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

var op = aivaulttest.Operator()

// The users and groups that there are in these tests.
var (
	users  = map[string]uint32{"agent": 2000, "other": 2001, "op": 1000, "root": 0}
	groups = map[string]uint32{"robots": 3000, "people": 3001}
)

// An office is an aivault with an admin whose users, groups, owner and clock
// are the test's.
type office struct {
	*aivaulttest.Aivault
	*admin.Admin
	now func() time.Time
}

func startOffice(t testing.TB) *office {
	t.Helper()
	v := aivaulttest.Start(t, aivaulttest.Options{Registry: testRegistry(t)})
	o := &office{Aivault: v, now: time.Now}
	lookup := func(known map[string]uint32) func(string) (uint32, error) {
		return func(name string) (uint32, error) {
			if id, ok := known[name]; ok {
				return id, nil
			}
			return 0, errors.New("unknown")
		}
	}
	o.Admin = admin.New(admin.Config{
		Vault: v.Vault, Registry: v.Registry, Default: keysource.Request{Provider: keysource.File},
		Quota:      v.Quota,
		Clock:      func() time.Time { return o.now() },
		LookupUser: lookup(users), LookupGroup: lookup(groups), Owner: new(uint32(990)),
		Observe: v.Broker.Observe,
	})
	return o
}

// testRegistry is the registry with a few providers of each kind of host.
func testRegistry(t testing.TB) *registry.Registry {
	t.Helper()
	compiled, err := registry.Load()
	if err != nil {
		t.Fatal(err)
	}
	var all []*registry.Provider
	for _, id := range compiled.Providers() {
		all = append(all, compiled.Provider(id))
	}
	for _, file := range []string{shop, desk, mail, forge} {
		p, err := registry.Parse([]byte(file))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	r, err := registry.New(all...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A provider file with hosts of one's own.
const file = `{
	"schemaVersion": 1, "provider": "%[1]s", "title": "%[1]s", "category": "tests", "docs": "https://%[1]s.test/docs",
	"getKey": {"text": "Ask.", "url": "https://%[1]s.test/key"}, "secrets": %[2]s, %[3]s,
	"logins": [{"id": "only", "auth": %[4]s}],
	"capabilities": [
		{"id": "%[1]s/things-read", "description": "Read.", "access": "read", "methods": ["GET"], "paths": ["/things"]},
		{"id": "%[1]s/things-write", "description": "Write.", "access": "write", "methods": ["POST"], "paths": ["/things"]},
		{"id": "%[1]s/users", "description": "Users.", "access": "admin", "methods": ["POST"], "paths": ["/users"]},
		{"id": "%[1]s/keys", "description": "Keys.", "access": "admin", "methods": ["POST"], "paths": ["/keys"]}
	],
	"sets": [
		{"id": "%[1]s/things", "description": "Things.", "members": ["%[1]s/things-read", "%[1]s/things-write"]},
		{"id": "%[1]s/office", "description": "All.", "members": ["%[1]s/things-read", "%[1]s/users"]},
		{"id": "%[1]s/admin", "description": "Admin.", "members": ["%[1]s/users", "%[1]s/keys"]}
	]
}`

const header = `{"type": "header", "headerName": "X-Token", "valueTemplate": "{{secret}}"}`

var (
	shop = fmt.Sprintf(file, "shop", `[{"name": "SHOP_TOKEN", "field": "secret"}]`,
		`"hosts": ["{shop}.shop.test"], "hostParams": [{"name": "shop", "kind": "tenant", "pattern": "^[a-z0-9][a-z0-9-]*$"}], "hostPatterns": ["*.shop.test"]`, header)
	desk = fmt.Sprintf(file, "desk", `[{"name": "DESK_EMAIL", "field": "email", "public": true}, {"name": "DESK_TOKEN", "field": "token"}]`,
		`"hosts": ["{site}.desk.test"], "hostParams": [{"name": "site", "kind": "tenant", "pattern": "^[a-z]+$"}], "hostPatterns": ["*.desk.test"]`,
		`{"type": "basic", "usernameTemplate": "{{email}}", "passwordTemplate": "{{token}}"}`)
	mail = fmt.Sprintf(file, "mail", `[{"name": "MAIL_KEY", "field": "secret"}]`,
		`"hosts": ["{region}.mail.test"], "hostParams": [{"name": "region", "kind": "region", "values": ["eu", "us"], "default": "us"}], "hostPatterns": ["*.mail.test"]`, header)
	forge = fmt.Sprintf(file, "forge", `[{"name": "FORGE_TOKEN", "field": "secret"}]`,
		`"selfHosted": true, "hosts": ["{host}"], "hostParams": [{"name": "host", "kind": "tenant"}]`, header)
)

// store stores a secret in a scope.
func (o *office) store(t testing.TB, name, scope string) api.Secret {
	t.Helper()
	s, err := o.CreateSecret(background, op, api.SecretCreate{Name: name, Value: secret.FromString("value-of-" + name + "-0123456789"), Scope: scope})
	if err != nil {
		t.Fatalf("create %s in %s: %v", name, scope, err)
	}
	return s
}

// custom makes a credential of a provider that the registry does not know.
func (o *office) custom(t testing.TB, id, provider, scope, ref string) api.Credential {
	t.Helper()
	c, err := o.CreateCredential(background, op, api.CredentialCreate{
		ID: id, Provider: provider, Scope: scope, SecretRefs: map[string]string{"secret": ref},
		Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{aivaulttest.CustomHost},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// state is what the vault holds now.
func (o *office) state(t testing.TB) *vault.State {
	t.Helper()
	snap, err := o.Vault.Snapshot(background)
	if err != nil {
		t.Fatal(err)
	}
	return snap.State()
}

// edit changes the state as no command would.
func (o *office) edit(t testing.TB, fn func(*vault.State)) {
	t.Helper()
	if _, err := o.Vault.Update(background, audit.Record{Event: "test"}, func(tx *vault.Tx) error { fn(tx.State); return nil }); err != nil {
		t.Fatal(err)
	}
}

// credential is a credential as the vault holds it.
func (o *office) credential(t testing.TB, id string) vault.Credential {
	t.Helper()
	for _, c := range o.state(t).Credentials {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("there is no credential %s", id)
	return vault.Credential{}
}

// last is the newest record of an event.
func (o *office) last(t testing.TB, event string) aivaulttest.Record {
	t.Helper()
	found := aivaulttest.Events(o.Records(t), event)
	if len(found) == 0 {
		t.Fatalf("no record of %s", event)
	}
	return found[len(found)-1]
}

// unchanged runs a command that must fail, and wants the vault as it was.
func (o *office) unchanged(t *testing.T, what string, code api.Code, text string, fn func() error) {
	t.Helper()
	before := o.Vault.Status(background).Generation
	wants(t, what, fn(), code, text)
	if after := o.Vault.Status(background).Generation; after != before {
		t.Errorf("%s: generation %d became %d", what, before, after)
	}
}

func hintOf(err error) string {
	if err == nil {
		return ""
	}
	return api.AsError(err).Hint
}

// agent is a caller of a user id, and of groups beside its own.
func agent(uid uint32, gids ...uint32) grant.Caller {
	return grant.Caller{UID: uid, GID: uid, User: "agent", Groups: append([]uint32{uid}, gids...)}
}
