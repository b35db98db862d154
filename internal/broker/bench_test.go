package broker_test

import (
	"io"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/egress"
)

// BenchmarkDo is a whole call over loopback TLS, with every guard on.
func BenchmarkDo(b *testing.B) {
	v := start(b, aivaulttest.Options{})
	v.Create(b, "OPENAI_API_KEY", "sk-test-0123456789")
	benchmarkCalls(b, v)
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
