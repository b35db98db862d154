package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net/url"
	"strconv"
	"syscall"
	"testing"
	"time"

	"moldable.sh/aivault/internal/secret"
)

// randomValues are n values that look like API keys.
func randomValues(rng *rand.Rand, n int) []secret.Value {
	values := make([]secret.Value, n)
	for i := range values {
		values[i] = secret.FromString("sk-" + base64.RawURLEncoding.EncodeToString(randomBytes(rng, 30)))
	}
	return values
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// jsonText is about n bytes of the JSON that APIs answer: names, numbers,
// ids, prose, and an escape every escapes-th item.
func jsonText(rng *rand.Rand, n, escapes int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"id":"%s","index":%d,"created":%d,"text":"`, base64.RawURLEncoding.EncodeToString(randomBytes(rng, 12)), i, 1700000000+rng.IntN(1e8))
		for j := range 12 {
			b.WriteString([]string{"the ", "model ", "answers ", "with ", "words ", "that ", "are ", "mostly ", "short, "}[rng.IntN(9)])
			if escapes > 0 && j%escapes == 0 {
				b.WriteString([]string{`\n`, `\"`, `\u00e9`, `&amp;`, `%20`}[rng.IntN(5)])
			}
		}
		b.WriteString(`"},`)
	}
	return b.Bytes()
}

func BenchmarkReader(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	text := string(jsonText(rng, 8<<20, 0))
	texts := []struct {
		name string
		text []byte
	}{
		{"plain", jsonText(rng, 8<<20, 0)},
		{"escapes", jsonText(rng, 8<<20, 6)},
		{"denseEscapes", jsonText(rng, 8<<20, 1)},
		{"jsonInJSON", []byte(strconv.Quote(text))},
		{"html", []byte(html.EscapeString(text))},
		{"form", []byte(url.QueryEscape(text))},
		{"base64", []byte(base64.StdEncoding.EncodeToString(randomBytes(rng, 6<<20)))},
		{"random", randomBytes(rng, 8<<20)},
		{"backslashes", bytes.Repeat([]byte(`\`), 1<<20)},
		{"percent", bytes.Repeat([]byte(`%41%20`), 1<<18)},
		{"ampersands", bytes.Repeat([]byte(`&amp;&#65;& `), 1<<16)},
		{"hex", []byte(hex.EncodeToString(randomBytes(rng, 4<<20)))},
		{"keyPrefixes", bytes.Repeat([]byte(`sk-proj sk-`), 1<<18)},
	}
	for _, n := range []int{1, 16, 10_000} {
		set := NewSet(randomValues(rng, n))
		for _, t := range texts {
			b.Run(fmt.Sprintf("%s/%d", t.name, n), func(b *testing.B) {
				b.SetBytes(int64(len(t.text)))
				b.ReportAllocs()
				buf := make([]byte, 32<<10)
				began := cpuTime(b)
				defer func() {
					b.ReportMetric(float64(len(t.text)*b.N)/1e6/(cpuTime(b)-began).Seconds(), "cpuMB/s")
				}()
				for b.Loop() {
					r := set.Reader(bytes.NewReader(t.text))
					if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// cpuTime is what the process used so far: what counts on a machine that is
// shared.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkSSEEvent(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	event := []byte("data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"delta\":{\"content\":\" Hello,\\n\"}}]}\n\n")
	for _, n := range []int{1, 16, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := NewSet(randomValues(rng, n)).Events(endless(event))
			buf := make([]byte, 4096)
			b.SetBytes(int64(len(event)))
			b.ReportAllocs()
			for b.Loop() {
				if n, err := r.Read(buf); err != nil || n != len(event) {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// endless is the same event with every Read.
type endless []byte

func (e endless) Read(p []byte) (int, error) { return copy(p, e), nil }

func BenchmarkNewSet(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 16, 10_000} {
		values := randomValues(rng, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				NewSet(values).Close()
			}
		})
	}
	pem := []secret.Value{secret.New(randomBytes(rng, 1700))}
	b.Run("PEM", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			NewSet(pem).Close()
		}
	})
}

func BenchmarkHeader(b *testing.B) {
	set := NewSet(randomValues(rand.New(rand.NewPCG(1, 2)), 16))
	b.ReportAllocs()
	for b.Loop() {
		if _, n := set.String("application/json; charset=utf-8"); n != 0 {
			b.Fatal(n)
		}
	}
}
