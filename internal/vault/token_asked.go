package vault

import "maps"

// TokenAsked says whether a token's endpoint was asked with the token as it
// is now, and nothing is known of the outcome: because the answer is yet to
// come, or because it was lost. Nobody is locked out meanwhile.
func (v *Vault) TokenAsked(s *Snapshot, key string, sources map[string]uint64) bool {
	if !isHash(key) {
		return false
	}
	version := uint64(0)
	if t := s.tokens[key]; t != nil && maps.Equal(t.Sources, sources) {
		version = t.Version
	}
	return (&TokenLock{vault: v, path: v.path(tokensDir) + "/" + key}).Asked(sources, version)
}
