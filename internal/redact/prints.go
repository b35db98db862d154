package redact

import (
	"hash/maphash"

	"moldable.sh/aivault/internal/secret"
)

// Prints are fingerprints, under a key of the caller's, of the values that a
// Set made of them looks for. They tell whether another Set looks for more,
// and keep nothing of the values.
func Prints(key maphash.Seed, values []secret.Value) map[uint64]bool {
	prints := make(map[uint64]bool, len(values))
	for _, v := range values {
		if v.Len() >= MinLength {
			prints[Print(key, v)] = true
		}
	}
	return prints
}

// Print is the fingerprint of one value.
func Print(key maphash.Seed, v secret.Value) uint64 { return maphash.Bytes(key, v.Expose()) }
