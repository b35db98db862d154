package broker

import (
	"fmt"
	"path/filepath"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// BenchmarkPrepare resolves and decides one call and opens its secret, in a
// vault with few and in one with many entries: it must cost the same.
func BenchmarkPrepare(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			one := manyEntries(b, n)
			call := api.Call{Capability: "p7/all", Request: api.Request{Method: "GET", Path: "/v1/models"}}
			b.ReportAllocs()
			for b.Loop() {
				p := one.newPlan(grant.Caller{}, &call, egress.Body{})
				if _, err := one.decide(b.Context(), p); err != nil {
					b.Fatal(err)
				}
				fields, err := p.credential.open(p.login)
				if err != nil {
					b.Fatal(err)
				}
				wipe(fields)
			}
		})
	}
}

// BenchmarkIndex is what a change of the vault costs the next call.
func BenchmarkIndex(b *testing.B) {
	one := manyEntries(b, 10_000)
	snap, err := one.vault.Snapshot(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	old := one.current.Load()
	for b.Loop() {
		one.scrub.retire(old, newIndex(one.catalog, snap))
	}
}

func manyEntries(b testing.TB, n int) *Broker {
	b.Helper()
	r, err := registry.Load()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	v := vault.New(vault.Config{Dir: filepath.Join(dir, "vault"), DefaultKeyFile: filepath.Join(dir, "kek.key")})
	b.Cleanup(func() { _ = v.Close() })
	if err := v.Ensure(b.Context(), nil, keysource.Request{Provider: keysource.File}); err != nil {
		b.Fatal(err)
	}
	if _, err := v.Update(b.Context(), audit.Record{Event: audit.SecretCreated}, func(tx *vault.Tx) error {
		for i := range n {
			id := fmt.Sprintf("p%d", i)
			s := vault.Secret{ID: tx.NewID(), Name: id, Scope: "global", Version: 1}
			if err := tx.Seal(&s, secret.FromString("value-0123456789-"+id)); err != nil {
				return err
			}
			tx.State.Secrets = append(tx.State.Secrets, s)
			tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
				ID: id, Provider: id, Scope: "global", Secrets: map[string]string{"secret": s.ID},
				Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{id + ".test"},
			})
			if i < n/2+8 {
				tx.State.Capabilities = append(tx.State.Capabilities, vault.Capability{
					ID: id + "/all", Provider: id, Hosts: []string{id + ".test"}, Methods: []string{"GET"}, Paths: []string{"/"},
				})
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	one := New(Config{Vault: v, Registry: r, Egress: egress.New(egress.Config{})})
	b.Cleanup(one.Close)
	one.Observe(b.Context())
	return one
}
