package vault

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

// stale says whether a secret that the token was had with is gone, or has
// another value: then the token stands for what nobody has stored.
func (t *Token) stale(find func(id string) *Secret) bool {
	for id, version := range t.Sources {
		if s := find(id); s == nil || s.Version != version {
			return true
		}
	}
	return false
}

// Token finds a token by its key; nil when there is none, or only a stale one.
func (s *Snapshot) Token(key string) *Token { return s.tokens[key] }

// OpenToken opens what a token is made of. The caller wipes every value.
func (s *Snapshot) OpenToken(key string) (map[string]secret.Value, error) {
	t := s.tokens[key]
	if t == nil {
		return nil, api.Errorf(api.Internal, "vault: there is no token %+q", key)
	}
	fields, err := s.keys.openToken(t)
	if err != nil && api.CodeOf(err) != api.VaultLocked {
		return nil, api.Errorf(api.VaultUnavailable, "vault: open token %s: %w", t.Key, err)
	}
	return fields, err
}

// SealToken puts a token into the state, in place of one of the same key, and
// fills t.DEK and t.Value with fields under t's own key, sources and version.
// Its sources must be in the state, in these versions.
func (tx *Tx) SealToken(t *Token, fields map[string]secret.Value) error {
	if t.stale(tx.State.secret) {
		return api.Errorf(api.Internal, "vault: token %s was had with secrets that are not in the state", t.Key)
	}
	if err := tx.keys.sealToken(tx.v.cfg.Rand, t, fields); err != nil {
		return err
	}
	i := slices.IndexFunc(tx.State.Tokens, func(other Token) bool { return other.Key == t.Key })
	if i < 0 {
		tx.State.Tokens = append(tx.State.Tokens, *t)
	} else {
		tx.State.Tokens[i] = *t
	}
	return nil
}

func (st *State) secret(id string) *Secret {
	i := slices.IndexFunc(st.Secrets, func(s Secret) bool { return s.ID == id })
	if i < 0 {
		return nil
	}
	return &st.Secrets[i]
}

// pruneTokens drops the tokens that have become stale.
func (st *State) pruneTokens() {
	if len(st.Tokens) == 0 {
		return
	}
	secrets := make(map[string]*Secret, len(st.Secrets))
	for i := range st.Secrets {
		secrets[st.Secrets[i].ID] = &st.Secrets[i]
	}
	find := func(id string) *Secret { return secrets[id] }
	st.Tokens = slices.DeleteFunc(st.Tokens, func(t Token) bool { return t.stale(find) })
}

// finishTokens holds a change to its word: a token whose context changed
// without being sealed again would be lost.
func (tx *Tx) finishTokens(base *Snapshot) error {
	for i := range tx.State.Tokens {
		t := &tx.State.Tokens[i]
		if old := base.tokens[t.Key]; old != nil && old.Version == t.Version && old.DEK == t.DEK && old.Value == t.Value && maps.Equal(old.Sources, t.Sources) {
			continue
		}
		fields, err := tx.keys.openToken(t)
		wipeFields(fields)
		if err != nil {
			return api.Errorf(api.Internal, "vault: refuse the changed state: %w",
				fmt.Errorf("token %s was changed without being sealed again: %w", t.Key, err))
		}
	}
	return nil
}

func wipeFields(fields map[string]secret.Value) {
	for _, v := range fields {
		v.Wipe()
	}
}

func (k *keyring) openToken(t *Token) (map[string]secret.Value, error) {
	plain, err := k.open(sealingOfToken(k.vaultID, t), t.DEK, t.Value)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	var fields map[string]secret.Value
	if err := strictjson.Unmarshal(plain, &fields); err != nil || len(fields) == 0 {
		wipeFields(fields)
		return nil, errDamaged
	}
	return fields, nil
}

func (k *keyring) sealToken(rand io.Reader, t *Token, fields map[string]secret.Value) error {
	plain, err := encodeFields(fields)
	if err != nil {
		return err
	}
	defer clear(plain)
	t.DEK, t.Value, err = k.seal(rand, sealingOfToken(k.vaultID, t), plain)
	return err
}

// encodeFields writes an object of strings, sorted by name, into one slice
// that is large enough at once: growing it would leave a copy behind.
func encodeFields(fields map[string]secret.Value) ([]byte, error) {
	size := 2
	for name, v := range fields {
		if name == "" || v.IsZero() {
			return nil, api.Errorf(api.Internal, "vault: a token has a field without a name or a value")
		}
		size += room(name) + 6*v.Len() + 3
	}
	if size == 2 {
		return nil, api.Errorf(api.Internal, "vault: a token has no fields")
	}
	out := append(make([]byte, 0, size), '{')
	for i, name := range slices.Sorted(maps.Keys(fields)) {
		if i > 0 {
			out = append(out, ',')
		}
		var bad error
		if out, bad = jsontext.AppendQuote(out, name); bad == nil {
			out, bad = jsontext.AppendQuote(append(out, ':'), fields[name].Expose())
		}
		if bad != nil {
			clear(out)
			return nil, api.Errorf(api.Internal, "vault: a field of a token is not valid UTF-8")
		}
	}
	if out = append(out, '}'); len(out) > maxToken {
		clear(out)
		return nil, api.Errorf(api.InvalidRequest, "a token has at most %d bytes", maxToken)
	}
	return out, nil
}

// maxToken bounds what a token is made of, as JSON.
const maxToken = 64 << 10
