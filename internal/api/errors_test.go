package api_test

import (
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
)

func TestQuote(t *testing.T) {
	for s, want := range map[string]string{
		"a b":                    `"a b"`,
		"\x1b[2J\u202e\"\n\xff":  `"\x1b[2J\u202e\"\n\xff"`,
		strings.Repeat("x", 80):  `"` + strings.Repeat("x", 80) + `"`,
		strings.Repeat("x", 900): `"` + strings.Repeat("x", 80) + `"...`,
	} {
		if got := api.Quote(s); got != want {
			t.Errorf("%q: %s, not %s", s, got, want)
		}
	}
}
