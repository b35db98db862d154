package broker_test

import (
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// shelf is a vault with custom capabilities of acme that overlap, and github's
// token.
func shelf(t *testing.T) *aivaulttest.Aivault {
	t.Helper()
	v := start(t, aivaulttest.Options{})
	v.Create(t, "GITHUB_TOKEN", "ghp-test-0123456789")
	acme(t, v, "acme-token-0123456789", bearer())
	tamper(t, v, func(tx *vault.Tx) error {
		for id, rules := range map[string][]string{
			"acme/notes-read":    {"GET", "/notes"},
			"acme/notes-write":   {"POST", "/notes"},
			"acme/notes-private": {"GET", "/notes/private"},
			"acme/twin-a":        {"GET", "=/twin"},
			"acme/twin-b":        {"GET", "=/twin"},
			"acme/broken":        {"GET", "nowhere"},
			"other/notes-read":   {"GET", "/notes"},
		} {
			provider, _, _ := strings.Cut(id, "/")
			tx.State.Capabilities = append(tx.State.Capabilities, vault.Capability{
				ID: id, Provider: provider, Hosts: []string{aivaulttest.CustomHost}, Methods: rules[:1], Paths: rules[1:],
			})
		}
		return nil
	})
	return v
}

// A call on a set is the most specific member's, judged and recorded as it.
func TestACallOnASetIsItsMembers(t *testing.T) {
	v := shelf(t)
	for _, c := range []struct {
		id, method, path string
		member           string
		code             api.Code
	}{
		{"acme/*", "GET", "/notes/1", "acme/notes-read", ""},
		{"acme/*", "GET", "/notes/private/1", "acme/notes-private", ""},
		{"acme/*", "POST", "/notes/1", "acme/notes-write", ""},
		{"acme/*", "GET", "/elsewhere", "acme/all", ""},
		{"acme/notes-*", "GET", "/elsewhere", "", api.PolicyViolation},
		{"acme/*-read", "GET", "/notes/private/1", "acme/notes-read", ""},
		{"acme/*", "GET", "/twin", "", api.InvalidRequest},
		{"acme/twin-*", "GET", "/twin", "", api.InvalidRequest},
		{"acme/twin-a*", "GET", "/twin", "acme/twin-a", ""},
		{"acme/bro*", "GET", "/x", "", api.PolicyViolation},
		{"acme/notes-*", "", "/notes", "", api.InvalidRequest},
		{"acme/nothing-*", "GET", "/notes", "", api.CapabilityNotFound},
		{"*/notes-read", "GET", "/notes", "", api.CapabilityNotFound},
		{"*", "GET", "/notes", "", api.CapabilityNotFound},
		{"a*/notes-read", "GET", "/notes", "", api.CapabilityNotFound},
		{"acme/notes-*/x", "GET", "/notes", "", api.CapabilityNotFound},
		{"github/repos", "GET", "/repos/a/b", "github/repos-read", ""},
		{"github/repos", "POST", "/user/repos", "github/repos-create", ""},
		{"github/users", "", "", "github/user-read", ""},
		{"github/*", "GET", "/repos/a/b", "github/repos-read", ""},
	} {
		call := api.Call{Capability: c.id, Request: api.Request{Method: c.method, Path: c.path}}
		planned, _, err := callAs(v, aivaulttest.Agent(), call)
		if api.CodeOf(err) != c.code || err == nil && planned.Capability != c.member {
			t.Errorf("%s %s %s: %v %v, want %s%s", c.id, c.method, c.path, planned, err, c.member, c.code)
			continue
		}
		if err != nil {
			continue
		}
		records := aivaulttest.Events(v.Records(t), "call.allowed")
		if r := records[len(records)-1]; r["capability"] != c.member || r["set"] != c.id {
			t.Errorf("%s %s %s is recorded as %v of %v", c.id, c.method, c.path, r["capability"], r["set"])
		}
	}
	err := mustRefuse(t, v, api.Call{Capability: "acme/notes-*", Request: api.Request{Method: "PUT", Path: "/notes"}}, api.PolicyViolation)
	if !strings.Contains(err.Message, "acme/notes-write (POST /notes)") || err.Hint != "aivault explain 'acme/notes-*' --method PUT --path /notes" {
		t.Errorf("%q, hint %q", err.Message, err.Hint)
	}
	err = mustRefuse(t, v, api.Call{Capability: "acme/twin-*", Request: api.Request{Method: "GET", Path: "/twin"}}, api.InvalidRequest)
	if !strings.Contains(err.Message, "acme/twin-a and acme/twin-b") {
		t.Errorf("%q names no twin", err.Message)
	}
}

// What is off is off through a set too: no broader member takes its place.
func TestASetLeadsAroundNoSwitch(t *testing.T) {
	v := shelf(t)
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Switches = []api.Switch{{Pattern: "acme/*", On: false}, {Pattern: "acme/all", On: true}}
		return nil
	})
	for _, id := range []string{"acme/*", "acme/notes-*", "acme/notes-read"} {
		err := mustRefuse(t, v, get(id, "/notes/1"), api.PolicyViolation)
		if err.Message != "capability acme/notes-read is off" || err.Hint != "aivault capability enable acme/notes-read" {
			t.Errorf("%s: %q, hint %q", id, err.Message, err.Hint)
		}
	}
	mustInvoke(t, v, get("acme/all", "/notes/1"))
	// For one account alone.
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Switches = nil
		tx.State.Credentials[1].Only = []string{"acme/notes-*"}
		return nil
	})
	mustInvoke(t, v, get("acme/*", "/notes/1"))
	err := mustRefuse(t, v, get("acme/all", "/x"), api.PolicyViolation)
	if err.Message != `capability acme/all is off for credential "acme"` || err.Hint != "aivault capability enable acme/all" {
		t.Errorf("%q, hint %q", err.Message, err.Hint)
	}
	if d, err := v.Broker.Capability(background, aivaulttest.Operator(), "acme/all"); err != nil || !d.Off || d.Ready {
		t.Errorf("%+v, %v", d, err)
	}
}

// An admin's capability is off until it is turned on by its own id.
func TestAnAdminsCapabilityStartsOff(t *testing.T) {
	v := shelf(t)
	all, err := v.Broker.Capabilities(background, aivaulttest.Operator())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all.Capabilities, func(c api.CapabilitySummary) bool { return c.Provider == "github" && c.Access == "admin" })
	admin := all.Capabilities[i]
	if !admin.Off || admin.Ready {
		t.Errorf("%+v", admin)
	}
	state := func(on ...api.Switch) *api.CapabilityDetail {
		tamper(t, v, func(tx *vault.Tx) error {
			tx.State.Switches = on
			return nil
		})
		d, err := v.Broker.Capability(background, aivaulttest.Operator(), admin.ID)
		if err != nil {
			t.Fatal(err)
		}
		return &d
	}
	if d := state(api.Switch{Pattern: "github/*", On: true}); !d.Off || d.Setup.Commands[0] != "aivault capability enable "+admin.ID {
		t.Errorf("a wildcard turns %s on, or how to is not said: %+v", admin.ID, d)
	}
	if d := state(api.Switch{Pattern: admin.ID, On: true}); d.Off || !d.Ready {
		t.Errorf("%+v", d)
	}
}

// The member that bears its set's name has the set's default call, where the
// registry names no other.
func TestTheDefaultOfASet(t *testing.T) {
	p, err := registry.Parse([]byte(`{"schemaVersion":1,"provider":"shelf","title":"Shelf","category":"x","docs":"https://shelf.test","getKey":{"text":"Ask.","url":"https://shelf.test"},
	  "secrets":[{"name":"SHELF_KEY","field":"secret"}],"hosts":["api.shelf.test"],
	  "logins":[{"id":"key","auth":{"type":"header","headerName":"X-Shelf-Key","valueTemplate":"{{secret}}"}}],
	  "capabilities":[
	    {"id":"shelf/books","description":"Books.","access":"read","methods":["GET"],"paths":["=/books"]},
	    {"id":"shelf/books-write","description":"Write.","access":"write","methods":["POST"],"paths":["=/books"]}],
	  "sets":[{"id":"shelf/books","description":"All of it.","members":["shelf/books","shelf/books-write"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.New(p)
	if err != nil {
		t.Fatal(err)
	}
	v := start(t, aivaulttest.Options{Registry: r})
	v.Create(t, "SHELF_KEY", "shelf-key-0123456789")
	for method, member := range map[string]string{"": "shelf/books", "GET": "shelf/books", "POST": "shelf/books-write"} {
		planned, _, err := callAs(v, aivaulttest.Agent(), api.Call{Capability: "shelf/books", Request: api.Request{Method: method}})
		if err != nil || planned.Capability != member {
			t.Errorf("%q: %v, %v", method, planned, err)
		}
	}
	// Who may know the other member alone has no default call.
	uid := aivaulttest.Agent().UID
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Grants = []api.Grant{{ID: "g", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"shelf/books-write"}}}
		return nil
	})
	mustRefuse(t, v, api.Call{Capability: "shelf/books"}, api.InvalidRequest)
	mustRefuse(t, v, get("shelf/books", "/books"), api.PolicyViolation)
}
