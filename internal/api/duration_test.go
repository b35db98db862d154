package api

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1d": 24 * time.Hour, "65535d": 65535 * 24 * time.Hour, "90m": 90 * time.Minute, "-1h": -time.Hour,
		"": 0, "d": 0, "0d": 0, "-1d": 0, "+1d": 0, "65536d": 0, "1.5d": 0, "1d2h": 0, "7 d": 0, "7": 0,
	} {
		if got, err := ParseDuration(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
