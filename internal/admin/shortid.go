package admin

import "moldable.sh/aivault/internal/vault"

// shortID makes an id that a person can type: a letter for its kind, and eight
// letters and digits. Of a source of randomness that repeats itself it takes
// all that it can get; the vault refuses two entries of one id.
func shortID(tx *vault.Tx, kind string, taken func(id string) bool) string {
	var random string
	for range 64 {
		random = tx.NewID()
		if id := kind + "-" + random[:min(8, len(random))]; !taken(id) {
			return id
		}
	}
	return kind + "-" + random
}
