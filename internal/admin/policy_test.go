package admin_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/admin"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/quota"
	"moldable.sh/aivault/internal/vault"
)

func TestPolicies(t *testing.T) {
	o := startOffice(t)
	const id = "openai/chat-completions"
	o.store(t, "PLAIN", "")
	set := func(r api.PolicyChange) (api.PolicyList, error) {
		if r.Capability == "" {
			r.Capability = id
		}
		return o.SetPolicy(background, op, r)
	}
	models := []api.RequireJSON{{Pointer: "/model", Values: []string{"small", "tiny"}}}
	// What is left out stays; what is given replaces; what is lifted goes.
	for i, c := range []struct {
		change api.PolicyChange
		want   api.Policy
	}{
		{api.PolicyChange{RatePerMinute: new(5)}, api.Policy{RatePerMinute: 5}},
		{api.PolicyChange{RatePerCallerPerMinute: new(2)}, api.Policy{RatePerMinute: 5, RatePerCallerPerMinute: 2}},
		{api.PolicyChange{MaxRequestBodyBytes: new(int64(1000)), MaxResponseBodyBytes: new(int64(2000))},
			api.Policy{RatePerMinute: 5, RatePerCallerPerMinute: 2, MaxRequestBodyBytes: 1000, MaxResponseBodyBytes: 2000}},
		{api.PolicyChange{RatePerMinute: new(6), Lift: []string{"rateLimitPerMinutePerCaller", "maxRequestBodyBytes", "denyQuery"}},
			api.Policy{RatePerMinute: 6, MaxResponseBodyBytes: 2000}},
		{api.PolicyChange{ResponseBlock: []string{"id", "usage"}, DenyQuery: []string{"debug"}, RequireJSON: models},
			api.Policy{RatePerMinute: 6, MaxResponseBodyBytes: 2000, ResponseBlock: []string{"id", "usage"}, DenyQuery: []string{"debug"}, RequireJSON: models}},
		{api.PolicyChange{ResponseBlock: []string{"id"}, AllowQuery: []string{"limit"}, Lift: []string{"requireJson", "rateLimitPerMinute", "maxResponseBodyBytes"}},
			api.Policy{ResponseBlock: []string{"id"}, AllowQuery: []string{"limit"}, DenyQuery: []string{"debug"}}},
	} {
		c.want.Capability = id
		got, err := set(c.change)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		one, err := o.Policy(background, op, id)
		all, err2 := o.Policies(background, op)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		for _, list := range []api.PolicyList{got, one, all} {
			if diff := cmp.Diff([]api.Policy{c.want}, list.Policies); diff != "" {
				t.Errorf("%d: %s", i, diff)
			}
		}
		if r := o.last(t, "policy.set"); r["object"] != id || r["capability"] != id || r["provider"] != "openai" {
			t.Errorf("record %v", r)
		}
	}
	for name, c := range map[string]struct {
		change api.PolicyChange
		code   api.Code
		text   string
	}{
		"nothing":                 {api.PolicyChange{}, api.InvalidRequest, "no limit is given"},
		"rate 0":                  {api.PolicyChange{RatePerMinute: new(0)}, api.InvalidRequest, "rateLimitPerMinute is"},
		"rate -1":                 {api.PolicyChange{RatePerMinute: new(-1)}, api.InvalidRequest, "rateLimitPerMinute is"},
		"a caller's rate 0":       {api.PolicyChange{RatePerCallerPerMinute: new(0)}, api.InvalidRequest, "PerCaller is"},
		"request 0":               {api.PolicyChange{MaxRequestBodyBytes: new(int64(0))}, api.InvalidRequest, "maxRequestBodyBytes is"},
		"response -5":             {api.PolicyChange{MaxResponseBodyBytes: new(int64(-5))}, api.InvalidRequest, "maxResponseBodyBytes is"},
		"an empty list":           {api.PolicyChange{AllowQuery: []string{}}, api.InvalidRequest, "allowQuery is"},
		"no requirement":          {api.PolicyChange{RequireJSON: []api.RequireJSON{}}, api.InvalidRequest, "requireJson is"},
		"lift what is none":       {api.PolicyChange{Lift: []string{"everything"}}, api.InvalidRequest, `no limit "everything"`},
		"set and lifted":          {api.PolicyChange{RatePerMinute: new(1), Lift: []string{"rateLimitPerMinute"}}, api.InvalidRequest, "at once"},
		"what does not compile":   {api.PolicyChange{RequireJSON: []api.RequireJSON{{Pointer: "model", Values: []string{"x"}}}}, api.InvalidRequest, "policy"},
		"a field without a name":  {api.PolicyChange{ResponseBlock: []string{""}}, api.InvalidRequest, "empty"},
		"no capability":           {api.PolicyChange{Capability: " ", RatePerMinute: new(1)}, api.InvalidRequest, "provider/name"},
		"an unknown one":          {api.PolicyChange{Capability: "openai/nope", RatePerMinute: new(1)}, api.CapabilityNotFound, "openai/nope"},
		"a set":                   {api.PolicyChange{Capability: "mail/things", RatePerMinute: new(1)}, api.InvalidRequest, "mail/things-read, mail/things-write"},
		"a pattern":               {api.PolicyChange{Capability: "mail/*", RatePerMinute: new(1)}, api.InvalidRequest, "mail/things-read, mail/things-write, mail/users"},
		"a pattern of nothing":    {api.PolicyChange{Capability: "nope/*", RatePerMinute: new(1)}, api.CapabilityNotFound, "nope/*"},
		"lift where nothing is":   {api.PolicyChange{Capability: "openai/models", Lift: []string{"denyQuery"}}, api.InvalidRequest, "nothing limits"},
		"a text with an escape":   {api.PolicyChange{Capability: "\x1b[31m/x", RatePerMinute: new(1)}, api.InvalidRequest, `\x1b`},
		"a very long capability":  {api.PolicyChange{Capability: "a/" + strings.Repeat("b", 10_000), RatePerMinute: new(1)}, api.InvalidRequest, "..."},
		"an upper-case spelling":  {api.PolicyChange{Capability: "OpenAI/models", RatePerMinute: new(1)}, api.InvalidRequest, "provider/name"},
		"a slash too many":        {api.PolicyChange{Capability: "openai/models/x", RatePerMinute: new(1)}, api.InvalidRequest, "provider/name"},
		"a capability with blank": {api.PolicyChange{Capability: "openai/models ", RatePerMinute: new(1)}, api.InvalidRequest, "provider/name"},
	} {
		o.unchanged(t, name, c.code, c.text, func() error { _, err := set(c.change); return err })
	}
	_, err := o.SetPolicy(background, op, api.PolicyChange{RatePerMinute: new(1)})
	wants(t, "no capability at all", err, api.InvalidRequest, "no capability is named")
	// Of an id that is a capability's and a set's, the capability is meant.
	if got, err := set(api.PolicyChange{Capability: "openai/responses", RatePerMinute: new(1)}); err != nil || got.Policies[0].Capability != "openai/responses" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := o.ClearPolicy(background, op, "openai/responses"); err != nil {
		t.Error(err)
	}
	// The last limit that is lifted takes the entry with it.
	got, err := set(api.PolicyChange{Lift: []string{"responseBlock", "allowQuery", "denyQuery"}})
	if err != nil || len(got.Policies) != 0 || len(o.state(t).Policies) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = o.Policy(background, op, id); err != nil || got.Policies == nil || len(got.Policies) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = o.Policy(background, op, "openai/nope")
	wants(t, "show an unknown one", err, api.CapabilityNotFound, "openai/nope")
	_, err = o.Policy(background, op, "mail/things")
	wants(t, "show a set", err, api.InvalidRequest, "mail/things-read")

	o.unchanged(t, "clear nothing", api.InvalidRequest, "no policy", func() error { _, err := o.ClearPolicy(background, op, id); return err })
	o.unchanged(t, "clear an unknown one", api.CapabilityNotFound, "nope", func() error { _, err := o.ClearPolicy(background, op, "openai/nope"); return err })
	if _, err := set(api.PolicyChange{RatePerMinute: new(5)}); err != nil {
		t.Fatal(err)
	}
	// A policy of what no longer exists can be seen and cleared.
	o.edit(t, func(st *vault.State) {
		st.Policies = append(st.Policies, api.Policy{Capability: "gone/by", RatePerMinute: 1})
	})
	if got, err = o.Policy(background, op, "gone/by"); err != nil || len(got.Policies) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, capability := range []string{"gone/by", id} {
		if got, err = o.ClearPolicy(background, op, capability); err != nil || got.Policies == nil || len(got.Policies) != 0 {
			t.Errorf("%+v, %v", got, err)
		}
		if r := o.last(t, "policy.cleared"); r["object"] != capability {
			t.Errorf("record %v", r)
		}
	}
	if left := o.state(t).Policies; len(left) != 0 {
		t.Errorf("%+v", left)
	}
}

// The file of the counts is made with the first limit, and never again: one
// that is missing later is a full window.
func TestTheFirstRateMakesTheCounts(t *testing.T) {
	counts := func(o *office) bool {
		_, err := os.Stat(filepath.Join(o.Dir, "limits"))
		return err == nil
	}
	rate := func(o *office, capability string) error {
		_, err := o.SetPolicy(background, op, api.PolicyChange{Capability: capability, RatePerMinute: new(5)})
		return err
	}
	grantRate := func(o *office) error {
		_, err := o.AddGrant(background, op, api.GrantAdd{Consumer: api.ConsumerRef{User: "agent"}, RatePerMinute: new(5)})
		return err
	}
	for name, c := range map[string]struct{ first, second func(*office) error }{
		"a policy, a policy": {func(o *office) error { return rate(o, "openai/models") }, func(o *office) error { return rate(o, "openai/responses") }},
		"a policy, a grant":  {func(o *office) error { return rate(o, "openai/models") }, grantRate},
		"a grant, a policy":  {grantRate, func(o *office) error { return rate(o, "openai/models") }},
		"a caller's rate, a grant": {func(o *office) error {
			_, err := o.SetPolicy(background, op, api.PolicyChange{Capability: "openai/models", RatePerCallerPerMinute: new(5)})
			return err
		}, grantRate},
	} {
		o := startOffice(t)
		o.store(t, "PLAIN", "")
		if _, err := o.SetPolicy(background, op, api.PolicyChange{Capability: "openai/models", MaxRequestBodyBytes: new(int64(5))}); err != nil {
			t.Fatal(err)
		}
		if _, err := o.AddGrant(background, op, api.GrantAdd{Consumer: api.ConsumerRef{User: "other"}}); err != nil {
			t.Fatal(err)
		}
		if counts(o) {
			t.Errorf("%s: made without a rate", name)
		}
		if err := c.first(o); err != nil || !counts(o) {
			t.Errorf("%s: %v, made: %v", name, err, counts(o))
		}
		if err := os.Remove(filepath.Join(o.Dir, "limits")); err != nil {
			t.Fatal(err)
		}
		if err := c.second(o); err != nil || counts(o) {
			t.Errorf("%s: %v, made again: %v", name, err, counts(o))
		}
	}
	o := startOffice(t)
	o.store(t, "PLAIN", "")
	without := admin.New(admin.Config{Vault: o.Vault, Registry: o.Registry})
	o.unchanged(t, "nothing to count with", api.Internal, "count", func() error {
		_, err := without.SetPolicy(background, op, api.PolicyChange{Capability: "openai/models", RatePerMinute: new(5)})
		return err
	})
	nowhere := admin.New(admin.Config{Vault: o.Vault, Registry: o.Registry, Quota: quota.New(quota.Config{Path: filepath.Join(o.Dir, "nowhere", "limits")})})
	o.unchanged(t, "nowhere to count", api.Internal, "count", func() error {
		_, err := nowhere.SetPolicy(background, op, api.PolicyChange{Capability: "openai/models", RatePerMinute: new(5)})
		return err
	})
}
