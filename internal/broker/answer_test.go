package broker_test

import (
	"net/http"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/egress"
)

// A secret that an upstream writes into a header's name comes back in another
// case, which a hexadecimal key survives.
func TestNoHeaderNameCarriesASecret(t *testing.T) {
	const key = "0123abcd4567ef890123abcd4567ef89"
	names := []string{
		"X-RateLimit-" + key, "RateLimit-" + key, "X-Rate-Limit-Remaining-" + key, "Anthropic-RateLimit-" + key + "-Limit",
		"X-RateLimit-0123-Abcd-4567", "X-RateLimit-", "X-Request-Id-" + key,
	}
	kept := []string{
		"X-Ratelimit-Limit", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Requests", "X-Ratelimit-Used", "X-Ratelimit-Resource",
		"X-Ratelimit-Limit-Project-Tokens", "X-Rate-Limit-Api-Key-Remaining", "Ratelimit-Policy", "Ratelimit-Reset",
		"Anthropic-Ratelimit-Input-Tokens-Remaining", "Anthropic-Ratelimit-Unified-5h-Utilization", "X-Ratelimit-Limit-1m", "X-Request-Id",
	}
	v := start(t, aivaulttest.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range append(names, kept...) {
			w.Header().Set(name, "1")
		}
	})})
	acme(t, v, key, bearer())
	answer, err := v.Broker.Do(background, aivaulttest.Agent(), get("acme/all", "/x"), egress.Body{})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	for _, name := range kept {
		if answer.Header.Get(name) != "1" {
			t.Errorf("%s is not passed on", name)
		}
		answer.Header.Del(name)
	}
	answer.Header.Del("Content-Type")
	if len(answer.Header) > 0 {
		t.Errorf("passed on: %v", answer.Header)
	}
}
