package broker_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// What is usable is the whole list without what is neither ready nor off at a
// provider of which the caller sees a credential; and of one provider it is
// what the whole list says of it. That holds for every caller.
func TestPartsOfTheList(t *testing.T) {
	limited := grant.Caller{UID: 3000}
	for name, v := range map[string]*aivaulttest.Aivault{"tenants": tenants(t, nil), "shelf": shelf(t)} {
		uid := limited.UID
		tamper(t, v, func(tx *vault.Tx) error {
			tx.State.Grants = []api.Grant{{ID: "g", Consumer: api.Consumer{UID: &uid}, Capabilities: []string{"openai/*", "github/*", "stripe/*", "acme/*"}}}
			tx.State.Switches = []api.Switch{{Pattern: "openai/models"}, {Pattern: "stripe/*"}, {Pattern: "acme/*"}}
			tx.State.Capabilities = append(tx.State.Capabilities, vault.Capability{
				ID: "stripe/mine", Provider: "stripe", Hosts: []string{"api.stripe.com"}, Methods: []string{"GET"}, Paths: []string{"/v1/mine"},
			})
			return nil
		})
		for _, who := range []grant.Caller{aivaulttest.Operator(), aivaulttest.Agent(), limited, {UID: 4000}} {
			all, err := v.Broker.Capabilities(background, who)
			if err != nil {
				t.Fatal(err)
			}
			status, _ := v.Broker.Providers(background, who)
			account := func(id string) bool {
				return v.Registry.Provider(id) == nil ||
					slices.ContainsFunc(status, func(s api.ProviderStatus) bool { return s.Provider == id })
			}
			want := all
			want.Capabilities = slices.DeleteFunc(slices.Clone(all.Capabilities), func(c api.CapabilitySummary) bool {
				return !c.Ready && !(c.Off && account(c.Provider))
			})
			want.Sets = slices.DeleteFunc(slices.Clone(all.Sets), func(s api.CapabilitySet) bool { return !s.Ready })
			got, err := v.Broker.CapabilitiesBy(background, who, api.CapabilityQuery{Usable: true})
			if d := cmp.Diff(want, got); err != nil || d != "" {
				t.Errorf("%s: what is usable for uid %d: %v\n%s", name, who.UID, err, d)
			}
			for _, id := range []string{"openai", "github", "stripe", "acme", "nobody"} {
				want := api.CapabilityList{Capabilities: []api.CapabilitySummary{}, Sets: []api.CapabilitySet{}, Available: []api.AvailableProvider{}}
				for _, c := range all.Capabilities {
					if c.Provider == id {
						want.Capabilities = append(want.Capabilities, c)
					}
				}
				for _, s := range all.Sets {
					if s.Provider == id {
						want.Sets = append(want.Sets, s)
					}
				}
				for _, p := range all.Available {
					if p.Provider == id {
						want.Available = append(want.Available, p)
					}
				}
				got, err := v.Broker.CapabilitiesBy(background, who, api.CapabilityQuery{Provider: id})
				if d := cmp.Diff(want, got); err != nil || d != "" {
					t.Errorf("%s: %s for uid %d: %v\n%s", name, id, who.UID, err, d)
				}
			}
		}
	}
}

// Status and what is usable look into the providers that the vault has
// something of, however many the registry has.
func TestListsDecodeWhatTheyNeed(t *testing.T) {
	r, err := registry.Load()
	if err != nil {
		t.Fatal(err)
	}
	v := aivaulttest.Start(t, aivaulttest.Options{Registry: r})
	v.Create(t, "OPENAI_API_KEY", "a-value-0123456789")
	v.Create(t, "MINE", "another-value-0123456789")
	for _, who := range []grant.Caller{aivaulttest.Operator(), aivaulttest.Agent()} {
		v.Broker.Providers(background, who)
		list, err := v.Broker.CapabilitiesBy(background, who, api.CapabilityQuery{Usable: true})
		if err != nil || len(list.Capabilities) == 0 || len(list.Available) < 100 {
			t.Fatal(list, err)
		}
	}
	if n := r.Decoded(); n != 1 {
		t.Errorf("%d providers are decoded for openai's sake", n)
	}
	if _, err := v.Broker.CapabilitiesBy(background, aivaulttest.Operator(), api.CapabilityQuery{Provider: "stripe"}); err != nil || r.Decoded() != 2 {
		t.Errorf("%d providers are decoded for openai's and stripe's sake: %v", r.Decoded(), err)
	}
}
