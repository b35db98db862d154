package broker_test

import (
	"io"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/standin"
)

// BenchmarkDo is a whole call over loopback TLS, with every guard on.
func BenchmarkDo(b *testing.B) {
	v := start(b, aivaulttest.Options{})
	v.Create(b, "OPENAI_API_KEY", "sk-test-0123456789")
	benchmarkCalls(b, v)
}

// BenchmarkDoWithToken is the same with a token that is good: what it costs
// more is to open that instead of a key.
func BenchmarkDoWithToken(b *testing.B) {
	v := startIdentity(b, standin.IDPOptions{ExpiresIn: "-"})
	v.login(b)
	benchmarkCall(b, v.Aivault, get("ident/all", "/v1/models"))
}

func benchmarkCalls(b *testing.B, v *aivaulttest.Aivault) {
	b.Helper()
	benchmarkCall(b, v, get("openai/models", "/v1/models"))
}

func benchmarkCall(b *testing.B, v *aivaulttest.Aivault, call api.Call) {
	v.API.Record(false)
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
