package keysource

import (
	"context"
	"maps"
	"slices"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// contract is what the suite needs to know of a provider.
type contract struct {
	request Request    // makes a key
	opens   Material   // opens it
	refused []Material // do not
	stores  bool       // the provider keeps the key itself
}

const otherKey = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="

func contracts() map[string]contract {
	env := Material{EnvKey: secret.FromString("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")}
	pass := Material{Passphrase: secret.FromString("correct horse")}
	return map[string]contract{
		File: {request: Request{Provider: File}, stores: true},
		Env: {request: Request{Provider: Env, Material: env}, opens: env,
			refused: []Material{{}, {EnvKey: secret.FromString(otherKey)}, {EnvKey: secret.FromString("no key")}}},
		Passphrase: {request: Request{Provider: Passphrase, Material: pass}, opens: pass, refused: []Material{{}}},
	}
}

// Every provider of the table keeps the same promises.
func TestEveryProviderKeepsTheContract(t *testing.T) {
	all := contracts()
	if want, got := slices.Sorted(maps.Keys(providers())), slices.Sorted(maps.Keys(all)); !slices.Equal(want, got) {
		t.Fatalf("the table has %q and the suite %q: give a new provider its data", want, got)
	}
	ctx := context.Background()
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, "aaaaaaaaaaaaaaaaaaaaaaaaaa")
			first := prepare(t, cfg, c.request)
			if err := first.Params.Check(); err != nil || first.Params.Provider != name || first.KEK.Len() != KeySize {
				t.Fatalf("made %+v of %d bytes: %v", first.Params, first.KEK.Len(), err)
			}
			wantOpen(t, cfg, first.Params, c.opens, first.KEK)
			for i, m := range c.refused {
				if _, err := Open(ctx, cfg, first.Params, m); api.CodeOf(err) != api.VaultLocked {
					t.Errorf("material %d: %v", i, err)
				}
			}

			// A second key leaves the first one open until it is settled.
			second := prepare(t, cfg, c.request)
			if second.Params.KeyID == first.Params.KeyID && c.stores {
				t.Error("two keys have one id")
			}
			wantOpen(t, cfg, first.Params, c.opens, first.KEK)
			wantOpen(t, cfg, second.Params, c.opens, second.KEK)
			if Leftover(cfg, second.Params) != c.stores {
				t.Errorf("a left-over key: %v", !c.stores)
			}
			must(t, Settle(ctx, cfg, second.Params))
			wantOpen(t, cfg, second.Params, c.opens, second.KEK)
			if _, err := Open(ctx, cfg, first.Params, c.opens); (err != nil) != c.stores {
				t.Errorf("the key that was dropped: %v", err)
			}
			if Leftover(cfg, second.Params) {
				t.Error("a left-over after it was dropped")
			}

			// Another vault can neither use nor remove what this one stored.
			other := cfg
			other.VaultID = "bbbbbbbbbbbbbbbbbbbbbbbbbb"
			must(t, Forget(ctx, other, second.Params, Params{}))
			wantOpen(t, cfg, second.Params, c.opens, second.KEK)
			if _, err := Open(ctx, other, second.Params, c.opens); (err != nil) != c.stores {
				t.Errorf("another vault opens it: %v", err)
			}
			must(t, Forget(ctx, cfg, second.Params, Params{}))
			if _, err := Open(ctx, cfg, second.Params, c.opens); (err != nil) != c.stores {
				t.Errorf("after it was forgotten: %v", err)
			}

			// What belongs to another provider is refused, not left out.
			for foreign, f := range all {
				if foreign == name {
					continue
				}
				p := prepare(t, config(t, "cccccccccccccccccccccccccc"), f.request).Params
				p.Provider, p.Path, p.EnvVar = name, "/elsewhere", "ELSEWHERE"
				if p.Check() == nil {
					t.Errorf("parameters of %s pass for its own", foreign)
				}
			}
			if _, err := Open(ctx, cfg, Params{Provider: "nobody", KeyID: "a"}, c.opens); err == nil {
				t.Error("an unknown provider opens")
			}
		})
	}
}
