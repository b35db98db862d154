package oauth

import "moldable.sh/aivault/internal/vault"

// Lost says whether nothing but a person can renew the token that w asks for:
// its refresh token went out, and what came of it was never learned. While an
// ask is under way it is said too.
func (s *Source) Lost(snap *vault.Snapshot, w *Want) bool {
	if o := w.Spec.OAuth2; o == nil || o.GrantType != "refresh_token" {
		return false
	}
	key := KeyOf(w)
	if t := snap.Token(key); t != nil && t.Reusable && !t.Rotates {
		return false
	}
	return s.cfg.Vault.TokenAsked(snap, key, sourcesOf(snap, w))
}
