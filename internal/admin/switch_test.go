package admin_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/vault"
)

func (o *office) enable(patterns ...string) ([]string, error) {
	done, err := o.EnableCapabilities(background, op, api.SwitchRequest{Patterns: patterns})
	return done.Capabilities, err
}

func (o *office) disable(patterns ...string) ([]string, error) {
	done, err := o.DisableCapabilities(background, op, api.SwitchRequest{Patterns: patterns})
	return done.Capabilities, err
}

func TestSwitches(t *testing.T) {
	o := startOffice(t)
	o.store(t, "PLAIN", "")
	check := func(what string, got []string, err error, want string) {
		t.Helper()
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v; want %s", what, got, err, want)
		}
	}
	got, err := o.disable("mail/*")
	check("off", got, err, "mail/things-read mail/things-write")
	if r := o.last(t, "capability.disabled"); r["object"] != "mail/*" || r["name"] != "mail/*" {
		t.Errorf("record %v", r)
	}
	got, err = o.disable("mail/*")
	check("off again", got, err, "")
	got, err = o.enable("mail/things")
	check("a set", got, err, "mail/things-read mail/things-write")
	if r := o.last(t, "capability.enabled"); r["object"] != "mail/things" {
		t.Errorf("record %v", r)
	}
	got, err = o.enable("mail/*")
	check("a wildcard turns on no admin's", got, err, "")
	got, err = o.enable("mail/office", "mail/keys")
	check("nor does a set", got, err, "mail/keys")
	o.unchanged(t, "a set of an admin's alone", api.InvalidRequest, "mail/users, mail/keys", func() error { _, err := o.enable("mail/admin"); return err })
	got, err = o.disable("mail/admin")
	check("which is off at once", got, err, "mail/keys")
	got, err = o.enable("*")
	check("everything", got, err, "")
	// What a wildcard turned off, the same wildcard does not turn on where it
	// is an admin's, though it once was on.
	for _, pattern := range []string{"mail/*", "*", "*/keys"} {
		if _, err := o.enable("mail/keys"); err != nil {
			t.Fatal(err)
		}
		if _, err := o.disable(pattern); err != nil {
			t.Fatal(err)
		}
		if _, err := o.enable(pattern); err != nil || grant.On(o.state(t).Switches, "mail/keys", true) {
			t.Errorf("%s: %v, switches %v", pattern, err, o.state(t).Switches)
		}
	}
	got, err = o.enable("openai/responses")
	check("a capability that is a set's name", got, err, "")
	if st := o.state(t); slices.ContainsFunc(st.Switches, func(s api.Switch) bool { return s.Pattern == "openai/responses-read" }) {
		t.Errorf("switches %v", st.Switches)
	}
	many := slices.Repeat([]string{"mail/*"}, 513)
	for _, c := range []struct {
		patterns []string
		code     api.Code
		text     string
	}{
		{nil, api.InvalidRequest, "no capability"},
		{[]string{"mail"}, api.InvalidRequest, "no pattern"},
		{[]string{""}, api.InvalidRequest, "no pattern"},
		{[]string{"Mail/*"}, api.InvalidRequest, "no pattern"},
		{[]string{"mail/nope"}, api.CapabilityNotFound, "mail/nope"},
		{[]string{"mail/things-read", "nope/*"}, api.CapabilityNotFound, "nope/*"},
		{[]string{"*-nope"}, api.CapabilityNotFound, "*-nope"},
		{many, api.InvalidRequest, "512"},
	} {
		for name, turn := range map[string]func(...string) ([]string, error){"enable": o.enable, "disable": o.disable} {
			o.unchanged(t, fmt.Sprintf("%s %.40v", name, c.patterns), c.code, c.text, func() error { _, err := turn(c.patterns...); return err })
		}
	}
	if _, err := o.enable("mail/nope"); hintOf(err) != "aivault capability list --provider mail" {
		t.Errorf("hint %q", hintOf(err))
	}
	o.edit(t, func(st *vault.State) {
		for i := range 4096 {
			st.Switches = append(st.Switches, api.Switch{Pattern: fmt.Sprintf("x%d/*", i)})
		}
	})
	o.unchanged(t, "too many", api.InvalidRequest, "more than 4096", func() error {
		_, err := o.disable("mail/keys*")
		if !strings.Contains(hintOf(err), "aivault capability disable '*'") {
			t.Errorf("hint %q", hintOf(err))
		}
		return err
	})
	if _, err := o.disable("*"); err != nil || len(o.state(t).Switches) != 1 {
		t.Errorf("%v, %d switches", err, len(o.state(t).Switches))
	}
}

// Enabled means enabled: also for a credential that was made for a few.
func TestEnableWidens(t *testing.T) {
	o := startOffice(t)
	if _, err := o.storeOnly("MAIL_KEY", "", "mail/things-read"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.storeOnly("MAIL_KEY", "workspace:w", "mail/*"); err != nil {
		t.Fatal(err)
	}
	o.store(t, "MAIL_KEY", "workspace:v")
	if _, err := o.storeOnly("OPENAI_API_KEY", "", "openai/models"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ pattern, changed, only string }{
		{"mail/things-read", "", "[mail/things-read]"},
		{"*-read", "", "[mail/things-read]"},
		{"mail/things-write", "mail/things-write", "[mail/things-read mail/things-write]"},
		{"mail/keys", "mail/keys", "[mail/things-read mail/things-write mail/keys]"},
		{"mail/*", "", "[mail/things-read mail/things-write mail/keys mail/*]"},
		{"*", "", "[mail/things-read mail/things-write mail/keys mail/*]"},
	} {
		got, err := o.enable(c.pattern)
		got = slices.DeleteFunc(got, func(id string) bool { return !strings.HasPrefix(id, "mail/") })
		if err != nil || strings.Join(got, " ") != c.changed {
			t.Errorf("%s: changed %v, %v", c.pattern, got, err)
		}
		if only := fmt.Sprint(o.credential(t, "mail").Only); only != c.only {
			t.Errorf("%s: only %s, want %s", c.pattern, only, c.only)
		}
		if only := fmt.Sprint(o.credential(t, "mail-2").Only, o.credential(t, "mail-3").Only); only != "[mail/*] []" {
			t.Errorf("%s: the others' only %s", c.pattern, only)
		}
	}
	if only := fmt.Sprint(o.credential(t, "openai").Only); only != "[openai/models *-read *]" {
		t.Errorf("openai's only %s", only)
	}
	if _, err := o.disable("mail/*"); err != nil || len(o.credential(t, "mail").Only) != 4 {
		t.Errorf("%v: to disable narrows no credential", err)
	}
}

// However a list of switches is shortened, it means what all of the commands
// said one after the other.
func TestSwitchesMeanWhatWasSaid(t *testing.T) {
	o := startOffice(t)
	o.store(t, "PLAIN", "")
	type capability struct {
		id    string
		admin bool
	}
	var all []capability
	for _, id := range []string{"mail", "forge"} {
		for _, c := range o.Registry.Provider(id).Capabilities {
			all = append(all, capability{c.ID, c.Access == "admin"})
		}
	}
	patterns := []string{"*", "mail/*", "*-read", "*/keys", "mail/k*", "mail/things-read", "mail/keys", "forge/keys"}
	rapid.Check(t, func(rt *rapid.T) {
		o.edit(t, func(st *vault.State) { st.Switches = []api.Switch{} })
		var said []api.Switch
		for range rapid.IntRange(1, 8).Draw(rt, "commands") {
			s := api.Switch{Pattern: rapid.SampledFrom(patterns).Draw(rt, "pattern"), On: rapid.Bool().Draw(rt, "on")}
			turn := o.disable
			if s.On {
				turn = o.enable
			}
			before := o.state(t).Switches
			changed, err := turn(s.Pattern)
			if err != nil {
				rt.Fatal(err)
			}
			said = append(said, s)
			for _, c := range all {
				was, is := grant.On(before, c.id, c.admin), grant.On(o.state(t).Switches, c.id, c.admin)
				if want := grant.On(said, c.id, c.admin); is != want {
					rt.Fatalf("%s is on: %v after %v, which became %v", c.id, is, said, o.state(t).Switches)
				}
				if slices.Contains(changed, c.id) != (was != is) {
					rt.Fatalf("%s became %v of %v, and is among what changed: %v", c.id, is, was, was == is)
				}
			}
		}
		seen := map[string]bool{}
		for _, s := range o.state(t).Switches {
			if seen[s.Pattern] {
				rt.Fatalf("%s is there twice: %v", s.Pattern, o.state(t).Switches)
			}
			seen[s.Pattern] = true
		}
	})
}

// What is turned on or made says whose limits do not hold for its calls.
func TestWhatIsOnSaysWhoseLimitsDoNotHold(t *testing.T) {
	o := startOffice(t)
	o.store(t, "GITHUB_TOKEN", "")
	for _, id := range []string{"github/checks-read", "github/gists-read"} {
		if _, err := o.SetPolicy(background, op, api.PolicyChange{Capability: id, MaxRequestBodyBytes: new(int64(10))}); err != nil {
			t.Fatal(err)
		}
	}
	for _, pattern := range []string{"github/contents-read", "github/*"} {
		off, err := o.DisableCapabilities(background, op, api.SwitchRequest{Patterns: []string{pattern}})
		if err != nil || len(off.Limited) > 0 {
			t.Fatal(off.Limited, err)
		}
		on, err := o.EnableCapabilities(background, op, api.SwitchRequest{Patterns: []string{pattern}})
		if err != nil || len(on.Overlaps) > 0 || !slices.Equal(on.Limited, []string{"github/checks-read"}) {
			t.Errorf("%s: %q, %q, %v", pattern, on.Limited, on.Overlaps, err)
		}
	}
	// Nothing is said where nothing changed, or what is on admits none of their calls.
	for _, pattern := range []string{"github/contents-read", "openai/models"} {
		on, err := o.EnableCapabilities(background, op, api.SwitchRequest{Patterns: []string{pattern}})
		if err != nil || len(on.Limited) > 0 {
			t.Errorf("%s: %q, %v", pattern, on.Limited, err)
		}
	}
	for id, c := range map[string]struct{ path, want string }{
		"github/mine":   {"/gists", "github/gists-read"},
		"github/others": {"/acme", ""},
	} {
		d, err := o.CreateCapability(background, op, api.CapabilityCreate{ID: id, Methods: []string{"GET"}, Paths: []string{c.path}, Host: "api.github.com"})
		if err != nil || strings.Join(d.Limited, " ") != c.want {
			t.Errorf("%s: %q, %v", id, d.Limited, err)
		}
	}
}
