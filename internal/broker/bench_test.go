package broker_test

import (
	"fmt"
	"io"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/vault"
)

// BenchmarkDo is a whole call over loopback TLS, with every guard on.
func BenchmarkDo(b *testing.B) {
	v := start(b, aivaulttest.Options{})
	v.Create(b, "OPENAI_API_KEY", "sk-test-0123456789")
	benchmarkCalls(b, v)
}

// BenchmarkRefused is everything before a secret is opened, for a vault with
// few and one with many entries: it must cost the same.
func BenchmarkRefused(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			v := start(b, aivaulttest.Options{})
			v.Create(b, "OPENAI_API_KEY", "sk-test-0123456789")
			fill(b, v, n)
			call := get("openai/models", "/v1/files")
			for b.Loop() {
				if _, err := v.Broker.Do(background, aivaulttest.Agent(), call, egress.Body{}); api.CodeOf(err) != api.PolicyViolation {
					b.Fatal(err)
				}
			}
		})
	}
}

// fill adds n secrets with a custom credential each, and n/2 capabilities.
func fill(tb testing.TB, v *aivaulttest.Aivault, n int) {
	tamper(tb, v, func(tx *vault.Tx) error {
		for i := range n {
			s, err := addSecret(tx, fmt.Sprintf("S%d", i), "global", fmt.Sprintf("value-%d-0123456789", i), "", "")
			if err != nil {
				return err
			}
			p := fmt.Sprintf("p%d", i)
			tx.State.Credentials = append(tx.State.Credentials, vault.Credential{
				ID: p, Provider: p, Scope: "global", Secrets: map[string]string{"secret": s},
				Auth: &api.AuthSpec{Type: "header"}, Hosts: []string{p + ".test"},
			})
			if i%2 == 0 {
				tx.State.Capabilities = append(tx.State.Capabilities, vault.Capability{
					ID: p + "/all", Provider: p, Hosts: []string{p + ".test"}, Methods: []string{"GET"}, Paths: []string{"/"},
				})
			}
		}
		return nil
	})
}

func benchmarkCalls(b *testing.B, v *aivaulttest.Aivault) {
	v.API.Record(false)
	call := get("openai/models", "/v1/models")
	buf := make([]byte, 32<<10)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			answer, err := v.Broker.Do(background, aivaulttest.Agent(), call, egress.Body{})
			if err != nil {
				b.Error(err)
				return
			}
			for err == nil {
				_, err = answer.Body.Read(buf)
			}
			if err != io.EOF {
				b.Error(err)
			}
			_ = answer.Body.Close()
		}
	})
}
