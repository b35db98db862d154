package vault

import (
	"fmt"
	"testing"

	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
)

// fullVault holds n secrets.
func fullVault(b *testing.B, n int) (*Vault, Config) {
	b.Helper()
	v, cfg := fileVault(b)
	value := secret.FromString("sk-0123456789abcdefghijklmnopqrstuvwxyz0123456789ab")
	_, err := v.Update(b.Context(), audit.Record{Event: audit.SecretCreated}, func(tx *Tx) error {
		for i := range n {
			s := Secret{ID: tx.NewID(), Name: fmt.Sprintf("SECRET_NUMBER_%d", i), Scope: "global", Version: 1, CreatedAtMs: tx.Now()}
			if i == 0 {
				s.ID = "first"
			}
			if err := tx.Seal(&s, value); err != nil {
				return err
			}
			tx.State.Secrets = append(tx.State.Secrets, s)
		}
		return nil
	})
	must(b, err)
	return v, cfg
}

func BenchmarkOpen10k(b *testing.B) {
	_, cfg := fullVault(b, 10_000)
	for b.Loop() {
		x := New(cfg)
		if _, err := x.Snapshot(b.Context()); err != nil {
			b.Fatal(err)
		}
		must(b, x.Close())
	}
}

func BenchmarkUpdate10k(b *testing.B) {
	v, _ := fullVault(b, 10_000)
	value := secret.FromString("another value")
	for b.Loop() {
		_, err := v.Update(b.Context(), audit.Record{Event: audit.SecretRotated}, func(tx *Tx) error {
			s := &tx.State.Secrets[5000]
			s.Version++
			return tx.Seal(s, value)
		})
		must(b, err)
	}
}

func BenchmarkRotate10k(b *testing.B) {
	v, _ := fullVault(b, 10_000)
	for b.Loop() {
		must(b, v.Rotate(b.Context(), who, keysource.Request{Provider: keysource.File}))
	}
}

func BenchmarkSnapshot(b *testing.B) {
	v, _ := fullVault(b, 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Snapshot(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenSecret(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			v, _ := fullVault(b, n)
			b.ReportAllocs()
			for b.Loop() {
				s, err := v.Snapshot(b.Context())
				must(b, err)
				value, err := s.Open("first")
				must(b, err)
				value.Wipe()
			}
		})
	}
}
