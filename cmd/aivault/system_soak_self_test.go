//go:build system

package main_test

import (
	"math/rand/v2"
	"testing"
)

// What looks for leaks finds each of the disguises, and nothing where there is
// nothing: else the soak proves nothing.
func TestSoakFindsEveryDisguise(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	k := newSoakKeys(r)
	for range 5000 {
		v := k.fresh()
		if text := disguise(r, v); k.leak([]byte(text)) == "" {
			t.Fatalf("%q is not found in %q", v, text)
		}
		if text := disguise(r, k.word(40)); k.leak([]byte(text)) != "" {
			t.Fatalf("a value is found in %q", text)
		}
		// Each half of a value has a marker.
		if text := disguise(r, v[:len(v)/2]); k.leak([]byte(text)) == "" {
			t.Fatalf("the first half of %q is not found in %q", v, text)
		}
	}
}
