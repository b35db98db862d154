package broker_test

import (
	"slices"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// Whoever looks at a capability sees which others admit its calls, of those
// that there are for them.
func TestOverlapsAreDescribed(t *testing.T) {
	v := shelf(t)
	uid := aivaulttest.Agent().UID
	capability(t, v, api.CapabilityCreate{ID: "github/mine", Provider: "github", Methods: []string{"GET"}, Paths: []string{"/repos/acme"}, Host: "api.github.com"})
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Grants = []api.Grant{{ID: "g", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"acme/notes-*", "github/*-read"}}}
		return nil
	})
	for _, c := range []struct {
		who  grant.Caller
		id   string
		want string
	}{
		{aivaulttest.Operator(), "acme/notes-read", "acme/all acme/notes-private"},
		{aivaulttest.Operator(), "acme/notes-write", "acme/all"},
		{aivaulttest.Operator(), "acme/twin-a", "acme/all acme/twin-b"},
		{aivaulttest.Operator(), "acme/broken", ""},
		{aivaulttest.Operator(), "github/checks-read", "github/contents-read github/mine"},
		{aivaulttest.Operator(), "github/repos-read", "github/mine"},
		{aivaulttest.Operator(), "github/gists-read", ""},
		{aivaulttest.Operator(), "acme/notes-*", ""},
		{aivaulttest.Agent(), "acme/notes-read", "acme/notes-private"},
		{aivaulttest.Agent(), "github/checks-read", "github/contents-read"},
	} {
		d, err := v.Broker.Capability(background, c.who, c.id)
		if err != nil || strings.Join(d.Overlaps, " ") != c.want {
			t.Errorf("uid %d, %s: %q, %v", c.who.UID, c.id, d.Overlaps, err)
		}
	}
}

// Setting a limit tells of the capabilities by which the same calls can be
// made without it.
func TestALimitSaysWhereItDoesNotHold(t *testing.T) {
	v := shelf(t)
	set := func(id string) []string {
		t.Helper()
		list, err := v.Admin.SetPolicy(background, aivaulttest.Operator(), api.PolicyChange{Capability: id, MaxRequestBodyBytes: new(int64(10))})
		if err != nil {
			t.Fatal(err)
		}
		return list.Overlaps
	}
	if got := set("acme/notes-read"); !slices.Equal(got, []string{"acme/all", "acme/notes-private"}) {
		t.Errorf("%q", got)
	}
	if got := set("github/gists-read"); len(got) != 0 {
		t.Errorf("%q", got)
	}
	tamper(t, v, func(tx *vault.Tx) error {
		tx.State.Switches = []api.Switch{{Pattern: "acme/all"}}
		return nil
	})
	if got := set("acme/notes-read"); !slices.Equal(got, []string{"acme/notes-private"}) {
		t.Errorf("what is off is named: %q", got)
	}
	list, err := v.Admin.SetPolicy(background, aivaulttest.Operator(), api.PolicyChange{Capability: "acme/notes-read", Lift: []string{"maxRequestBodyBytes"}})
	if err != nil || len(list.Overlaps) > 0 {
		t.Errorf("nothing limits it any more: %q, %v", list.Overlaps, err)
	}
}

// What is turned off goes out all the same where another capability that is on
// admits it.
func TestTurningOffSaysWhatStillGoesOut(t *testing.T) {
	v := shelf(t)
	off := func(patterns ...string) []string {
		t.Helper()
		done, err := v.Admin.DisableCapabilities(background, aivaulttest.Operator(), api.SwitchRequest{Patterns: patterns})
		if err != nil || len(done.Capabilities) == 0 {
			t.Fatal(done, err)
		}
		return done.Overlaps
	}
	if got := off("acme/notes-read"); !slices.Equal(got, []string{"acme/all", "acme/notes-private"}) {
		t.Errorf("%q", got)
	}
	if got := off("acme/all", "acme/notes-private"); slices.Contains(got, "acme/notes-read") || slices.Contains(got, "acme/all") {
		t.Errorf("what is off is named: %q", got)
	}
	if got := off("acme/*"); len(got) != 0 {
		t.Errorf("all of it is off: %q", got)
	}
	done, err := v.Admin.EnableCapabilities(background, aivaulttest.Operator(), api.SwitchRequest{Patterns: []string{"acme/notes-read", "acme/all"}})
	if err != nil || len(done.Overlaps) != 0 {
		t.Errorf("turned on: %q, %v", done.Overlaps, err)
	}
}

// places is a provider whose login puts something before the path of some.
const places = `{"schemaVersion":1,"provider":"bots","title":"Bots","category":"x","docs":"https://bots.test","getKey":{"text":"Ask.","url":"https://bots.test"},
  "secrets":[{"name":"BOTS_KEY","field":"secret"}],"hosts":["api.bots.test","files.bots.test"],
  "logins":[
    {"id":"key","auth":{"type":"header","headerName":"X-Bots-Key","valueTemplate":"{{secret}}"}},
    {"id":"file","auth":{"type":"path","prefixTemplate":"/file{{secret}}"},"dedicated":true}],
  "capabilities":[
    {"id":"bots/read","description":"Read.","access":"read","methods":["GET"],"paths":["/things","=/p/*%2F*"],"hosts":["api.bots.test"]},
    {"id":"bots/files","description":"Files.","access":"read","methods":["GET"],"paths":["/things"],"hosts":["api.bots.test"],"logins":["file"]},
    {"id":"bots/other","description":"Elsewhere.","access":"read","methods":["GET"],"paths":["/things"],"hosts":["files.bots.test"]},
    {"id":"bots/plain","description":"Plain.","access":"read","methods":["GET"],"paths":["/p"],"hosts":["api.bots.test"]}],
  "sets":[{"id":"bots/all","description":"All.","members":["bots/read","bots/plain"]}]}`

func botsAndFiles(t *testing.T) *aivaulttest.Aivault {
	t.Helper()
	p, err := registry.Parse([]byte(places))
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.New(p)
	if err != nil {
		t.Fatal(err)
	}
	v := start(t, aivaulttest.Options{Registry: r, Hosts: []string{"api.bots.test", "files.bots.test"}})
	v.Create(t, "BOTS_KEY", "bots-key-0123456789")
	return v
}

// On another host, or at another place there, a path is another call.
func TestOverlapsAreOfOnePlace(t *testing.T) {
	v := botsAndFiles(t)
	for _, id := range []string{"bots/read", "bots/files", "bots/other", "bots/plain"} {
		if d, err := v.Broker.Capability(background, aivaulttest.Operator(), id); err != nil || len(d.Overlaps) > 0 {
			t.Errorf("%s: %q, %v", id, d.Overlaps, err)
		}
	}
}

// An escaped '/' goes out as it was judged, under the capability that declares
// it and under no other: of the registry, of a set, and of the operator's own.
func TestAnEscapedSlashNeedsARuleThatDeclaresIt(t *testing.T) {
	v := botsAndFiles(t)
	acme(t, v, "acme-token-0123456789", bearer())
	capability(t, v, api.CapabilityCreate{ID: "acme/projects", Methods: []string{"GET"}, Paths: []string{"=/projects/*%2F*/issues", "/projects/*"}})
	for _, c := range []struct {
		id, path, code string
	}{
		{"bots/read", "/p/a%2fb", ""},
		{"bots/read", "/p/a%2Fb%2Fc", ""},
		{"bots/all", "/p/a%2Fb", ""},
		{"bots/plain", "/p/a%2Fb", "invalid_request"},
		{"bots/read", "/things/a%2Fb", "policy_violation"},
		{"bots/read", "/p/a", "policy_violation"},
		{"bots/read", "/p/a/b", "policy_violation"},
		{"bots/read", "/p/a%2F..%2Fb", "invalid_request"},
		{"bots/read", "/p/a%252Fb", "invalid_request"},
		{"bots/read", "/p/a%2F", "invalid_request"},
		{"acme/projects", "/projects/group%2Fsub%2Fx/issues", ""},
		{"acme/projects", "/projects/group%2Fx", "policy_violation"},
		{"acme/projects", "/projects/7/group%2Fx", "policy_violation"},
		{"acme/all", "/projects/group%2Fx/issues", "invalid_request"},
		{"acme/*", "/projects/group%2Fx/issues", ""},
	} {
		before := len(v.API.Seen())
		answer, _, err := v.Invoke(get(c.id, c.path))
		if string(api.CodeOf(err)) != c.code {
			t.Errorf("%s %s: %v", c.id, c.path, err)
			continue
		}
		seen := v.API.Seen()[before:]
		if c.code != "" {
			if len(seen) > 0 {
				t.Errorf("%s %s was refused, and sent", c.id, c.path)
			}
			continue
		}
		r, err := policy.Canonicalise("GET", c.path, nil, policy.Rules{Slashes: true})
		if err != nil || len(seen) != 1 || seen[0].Target != r.Target() || !strings.Contains(seen[0].Target, "%2F") {
			t.Errorf("%s %s: %+v, %+v, %v", c.id, c.path, answer, seen, err)
		}
	}
}
