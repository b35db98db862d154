package policy

import (
	"testing"

	"moldable.sh/aivault/internal/api"
)

func BenchmarkCanonicalise(b *testing.B) {
	headers := []api.Header{{Name: "content-type", Value: "application/json"}, {Name: "Accept", Value: "*/*"}, {Name: "OpenAI-Organization", Value: "org-1"}}
	rules := Rules{
		AuthHeader: func(s string) bool { return s == "x-goog-user" },
		AuthQuery:  []string{"key"},
		Defaults:   []api.Header{{Name: "User-Agent", Value: "aivault"}},
	}
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Canonicalise("POST", "/v1/chat/completions", headers, rules); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("query", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Canonicalise("GET", "/v1/customers?limit=10&expand[]=data.customer", headers, rules); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("escaped", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Canonicalise("GET", "/files/caf%C3%A9%20menu.txt", headers, rules); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// The widest capability of the registry has some fifty rules.
func BenchmarkDecideFiftyRules(b *testing.B) {
	var rules []string
	for i := range 50 {
		rules = append(rules, "/repos/*/*/part"+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	c, err := Compile("github/repos-read", "github", []string{"api.github.com"}, []string{"GET"}, rules)
	if err != nil {
		b.Fatal(err)
	}
	r, err := Canonicalise("GET", "/repos/acme/site/partxb/7", nil, Rules{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decide(c, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	c, err := Compile("github/actions-run", "github", []string{"api.github.com"}, []string{"POST"}, []string{
		"/repos/*/*/actions/workflows/*/dispatches", "/repos/*/*/actions/runs/*/rerun",
		"/repos/*/*/actions/runs/*/rerun-failed-jobs", "/repos/*/*/actions/jobs/*/rerun",
		"/repos/*/*/actions/runs/*/cancel", "/repos/*/*/dispatches",
	})
	if err != nil {
		b.Fatal(err)
	}
	r, err := Canonicalise("POST", "/repos/acme/site/actions/runs/123456/cancel", nil, Rules{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decide(c, r); err != nil {
			b.Fatal(err)
		}
	}
}
