package broker

import (
	"fmt"
	"maps"
	"slices"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/oauth"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// tokenID tells one token from all others.
type tokenID struct {
	key     string
	of      string // oauth.Origin: another secret's tokens have the same versions
	version uint64
}

// A heldToken is one that answers are scrubbed of.
type heldToken struct {
	id     tokenID
	sealed bool // in the vault; else it is a part of its secret's value
}

// tokenIDs names the tokens that the credential's logins use, as the vault has
// them.
func (c *credential) tokenIDs() []heldToken {
	_ = c.check() // finds its logins
	var list []heldToken
	for _, l := range append(c.loginsWithTokens(), c.own) {
		if l.want == nil {
			continue
		}
		key := oauth.KeyOf(l.want)
		list = append(list, heldToken{id: tokenID{key, "", oauth.OwnVersion}})
		if t := c.index.snapshot.Token(key); t != nil {
			list = append(list, heldToken{tokenID{key, oauth.Origin(t.Sources), t.Version}, true})
		}
	}
	return list
}

// tokenValues opens the tokens that the credential's logins use, and names
// them. One that does not open leaves the others standing; a vault that was
// locked is an error.
func (c *credential) tokenValues() (values []secret.Value, ids []tokenID, err error) {
	for _, one := range c.tokenIDs() {
		if !one.sealed {
			ids = append(ids, one.id)
			continue
		}
		fields, err := c.index.snapshot.OpenToken(one.id.key)
		if api.CodeOf(err) == api.VaultLocked {
			return values, ids, err
		}
		if err != nil {
			continue // it cannot be sent either
		}
		values = append(values, c.secretOnes(fields)...)
		ids = append(ids, one.id)
	}
	return values, ids, nil
}

func (c *credential) loginsWithTokens() []login {
	var list []login
	for _, l := range c.tokens {
		list = append(list, l)
	}
	return list
}

// keepToken goes on scrubbing a token that the vault does not have, or no
// longer.
func (s *scrubber) keepToken(c *credential, t oauth.Token) {
	values := make([]secret.Value, 0, len(t.Fields))
	for name, v := range t.Fields {
		if !c.publics[name] {
			values = append(values, v.Clone())
		}
	}
	s.keep(tokenID{t.Key, t.Of, t.Version}, c.reach(), c.hosts, values)
}

// reach are the scopes whose calls may use the credential.
func (c *credential) reach() []grant.Scope { return append([]grant.Scope{c.scope}, c.attached...) }

// keep takes ownership of values. Sets that were prepared without them are
// prepared anew.
func (s *scrubber) keep(id tokenID, scopes []grant.Scope, hosts []string, values []secret.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := fmt.Sprintf("token|%s|%s|%d", id.key, id.of, id.version)
	s.hold(name, retired{scopes: scopes, hosts: hosts, values: values, token: id, of: "token|" + id.key})
	for key, set := range s.sets {
		if slices.Contains(hosts, key.host) || !set.built || set.tokens[tokenID{id.key, "", oauth.OwnVersion}] {
			delete(s.sets, key)
			s.letGo(set)
		}
	}
	seen := s.changes.Add(1)
	for _, set := range s.sets {
		set.seen.Store(seen) // it is of other hosts
	}
}

func merged[T comparable](a, b []T) []T {
	all := slices.Clone(a)
	for _, v := range b {
		if !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return all
}

// retireTokensOf keeps the tokens of a credential that is gone or has become
// another. They are in the vault as long as their secrets are.
func (s *scrubber) retireTokensOf(c *credential) {
	_ = c.check() // finds its tokens
	for _, l := range append(c.loginsWithTokens(), c.own) {
		if l.want == nil {
			continue
		}
		t := c.index.snapshot.Token(oauth.KeyOf(l.want))
		if t == nil {
			continue
		}
		fields, err := c.index.snapshot.OpenToken(t.Key)
		if err != nil {
			continue
		}
		s.keep(tokenID{t.Key, oauth.Origin(t.Sources), t.Version}, c.reach(), c.hosts, c.secretOnes(fields))
	}
}

// secretOnes are the values of a token that are secrets; the others are wiped.
func (c *credential) secretOnes(fields map[string]secret.Value) []secret.Value {
	values := make([]secret.Value, 0, len(fields))
	for name, v := range fields {
		if c.publics[name] {
			v.Wipe()
		} else {
			values = append(values, v)
		}
	}
	return values
}

func wipeValues(values []secret.Value) {
	for _, v := range values {
		v.Wipe()
	}
}

// retireTokens keeps the tokens of old that others have taken the place of in
// now, or that are gone.
func (s *scrubber) retireTokens(old, now *index) {
	tokens := old.snapshot.State().Tokens
	for i := range tokens {
		t := &tokens[i]
		if old.snapshot.Token(t.Key) == nil {
			continue // it was of no use to old either
		}
		if is := now.snapshot.Token(t.Key); is != nil && is.Version == t.Version && is.Value == t.Value {
			continue
		}
		fields, err := old.snapshot.OpenToken(t.Key)
		if err != nil {
			continue
		}
		scopes, hosts, public := old.usersOf(t)
		values := make([]secret.Value, 0, len(fields))
		for name, v := range fields {
			if public[name] {
				v.Wipe()
			} else {
				values = append(values, v)
			}
		}
		s.keep(tokenID{t.Key, oauth.Origin(t.Sources), t.Version}, scopes, hosts, values)
	}
}

// usersOf tells who may have sent a token where: all credentials that have the
// secrets that it was had with. Public are the fields that are no secrets for
// any of them.
func (ix *index) usersOf(t *vault.Token) (scopes []grant.Scope, hosts []string, public map[string]bool) {
	for _, c := range ix.credentials {
		if !c.holdsAll(t.Sources) {
			continue
		}
		_ = c.check() // finds what is public of it
		if scopes == nil {
			public = maps.Clone(c.publics)
		}
		maps.DeleteFunc(public, func(field string, _ bool) bool { return !c.publics[field] })
		scopes, hosts = append(scopes, c.reach()...), append(hosts, c.hosts...)
	}
	slices.Sort(hosts)
	return scopes, slices.Compact(hosts), public
}

func (c *credential) holdsAll(sources map[string]uint64) bool {
	found := 0
	for id := range sources {
		for _, have := range c.Secrets {
			if have == id {
				found++
				break
			}
		}
	}
	return found == len(sources)
}
