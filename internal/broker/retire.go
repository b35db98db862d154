package broker

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/secret"
)

// How many values are scrubbed after others took their place. They come by
// the hour, and a broker may run for years: of the first of 32 that were
// replaced one after the other nobody has use any more.
const (
	keptOfOne = 32     // times that a credential's values, or the token of one key, were replaced
	keptInAll = 16_384 // of all credentials and logins; beyond, the oldest quarter goes
)

// retired are values that were replaced or deleted: an upstream may repeat
// them for as long as it likes.
type retired struct {
	scopes []grant.Scope // the credential's own, and the groups that it was attached to
	hosts  []string
	values []secret.Value
	token  tokenID // of a token; else zero
	of     string  // the credential or the token's key
	nth    uint64  // since the broker started
}

// hold takes ownership of the values that were of's and are no longer. It is
// called with the lock held; name is not in s.retired.
func (s *scrubber) hold(name string, r retired) {
	s.held++
	r.nth = s.held
	s.retired[name] = r
	s.kept[r.of] = append(s.kept[r.of], name)
	if list := s.kept[r.of]; len(list) > keptOfOne {
		s.forget(list[0])
	}
	if len(s.retired) <= keptInAll {
		return
	}
	names := make([]string, 0, len(s.retired))
	for name := range s.retired {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(s.retired[a].nth, s.retired[b].nth) })
	for _, name := range names[:keptInAll/4] {
		s.forget(name)
	}
}

// forget is called with the lock held.
func (s *scrubber) forget(name string) {
	r := s.retired[name]
	wipeValues(r.values)
	delete(s.retired, name)
	if list := slices.DeleteFunc(s.kept[r.of], func(n string) bool { return n == name }); len(list) > 0 {
		s.kept[r.of] = list
	} else {
		delete(s.kept, r.of)
	}
}

// retire keeps what the credentials of old held and those of now no longer
// do.
func (s *scrubber) retire(old, now *index) {
	if old == nil || old.snapshot == nil {
		return
	}
	s.retireTokens(old, now)
	for id, c := range old.credentials {
		if c.sameValues(now.credentials[id]) {
			continue
		}
		values, _ := c.values(s.now()) // what no longer opens cannot be kept
		s.retireTokensOf(c)
		s.mu.Lock()
		key := c.versions()
		if _, known := s.retired[key]; known || len(values) == 0 {
			wipeValues(values)
		} else {
			s.hold(key, retired{scopes: c.reach(), hosts: c.hosts, values: values, of: "credential|" + c.ID})
		}
		s.mu.Unlock()
	}
}

// sameValues says whether other still uses all of c's values.
func (c *credential) sameValues(other *credential) bool {
	if other == nil || other.Scope != c.Scope || !slices.Equal(other.hosts, c.hosts) || !slices.Equal(other.attached, c.attached) {
		return false
	}
	if !reflect.DeepEqual(other.Token, c.Token) || !reflect.DeepEqual(other.Auth, c.Auth) {
		return false // its tokens are others
	}
	for field, id := range c.Secrets {
		was, is := c.index.snapshot.Secret(id), other.index.snapshot.Secret(id)
		if other.Secrets[field] != id || was != nil && (is == nil || is.Version != was.Version) {
			return false
		}
	}
	return true
}

// equal says whether the credential is as it was, with the same secrets.
func (c *credential) equal(was *credential) bool {
	if !reflect.DeepEqual(c.Credential, was.Credential) || !slices.Equal(c.hosts, was.hosts) || !slices.Equal(c.attached, was.attached) {
		return false
	}
	for _, id := range c.Secrets {
		if !reflect.DeepEqual(c.index.snapshot.Secret(id), was.index.snapshot.Secret(id)) {
			return false
		}
	}
	return true
}

// versions names the credential together with the versions of its values and
// where they could go.
func (c *credential) versions() string {
	parts := []string{c.ID, c.Scope, strings.Join(c.hosts, ","), fmt.Sprint(c.attached)}
	for field, id := range c.Secrets {
		if s := c.index.snapshot.Secret(id); s != nil {
			parts = append(parts, field+"="+id+"@"+strconv.FormatUint(s.Version, 10))
		}
	}
	slices.Sort(parts[4:])
	return strings.Join(parts, "|")
}
