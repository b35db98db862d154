package broker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// A sight is what a credential held, and where that could go, at one look of
// the broker.
type sight struct {
	id     string
	field  map[string]string // the value of each field
	secret map[string]bool   // the values that were no public parts
	scopes []string
	hosts  []string
}

// scrubModel says what answers have to be clean of: told from the state alone.
type scrubModel struct {
	now  map[string]sight
	past []sight
	held map[string][]map[string]string // by credential: what its fields held, the newest last
}

func (m *scrubModel) look(st *vault.State, values map[string]string) {
	seen := map[string]sight{}
	for _, c := range st.Credentials {
		s := sight{id: c.ID, field: map[string]string{}, secret: map[string]bool{}, scopes: []string{c.Scope}, hosts: c.Hosts}
		for f, id := range c.Secrets {
			i := slices.IndexFunc(st.Secrets, func(s vault.Secret) bool { return s.ID == id })
			if i < 0 {
				continue
			}
			v := values[st.Secrets[i].Value]
			s.field[f] = v
			if !slices.Contains(c.PublicParts, f) {
				s.secret[v] = true
			}
			for _, g := range st.Secrets[i].Groups {
				if len(c.Secrets) == 1 {
					s.scopes = append(s.scopes, g)
				}
			}
		}
		seen[c.ID] = s
		if list := m.held[c.ID]; len(list) == 0 || !maps.Equal(list[len(list)-1], s.field) {
			m.held[c.ID] = append(list, s.field)
		}
	}
	for _, s := range m.now {
		m.past = append(m.past, s)
	}
	m.now = seen
}

// lately says whether what a credential held was replaced fewer than 32 times
// ago.
func (m *scrubModel) lately(s sight) bool {
	list := m.held[s.id]
	for _, later := range list[max(0, len(list)-keptOfOne):] {
		if maps.Equal(later, s.field) {
			return true
		}
	}
	return false
}

func (s sight) reaches(host string, in grant.Scope) bool {
	return slices.Contains(s.hosts, host) && slices.ContainsFunc(s.scopes, func(text string) bool {
		scope, ok := grant.ParseScope(text)
		return ok && in.Sees(scope)
	})
}

func (m *scrubModel) must(host string, in grant.Scope) map[string]bool {
	all := map[string]bool{}
	public := map[string]bool{}
	for _, s := range m.now {
		if s.reaches(host, in) {
			maps.Copy(all, s.secret)
			for _, v := range s.field {
				public[v] = !s.secret[v]
			}
		}
	}
	for _, s := range m.past {
		if is, ok := m.now[s.id]; m.lately(s) && (s.reaches(host, in) || ok && is.reaches(host, in)) {
			for v := range s.secret {
				// A value that was made public is no secret of any time.
				if is := m.now[s.id]; !slices.Contains(slices.Collect(maps.Values(is.field)), v) || is.secret[v] {
					all[v] = true
				}
			}
		}
	}
	return all
}

// Whatever comes of the vault's entries, answers are clean of what may go to
// their host and of what that replaced, also those that began before.
func TestAnswersAreCleanWhateverChanges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) { checkScrubbing(rt, manyEntries(t, 0)) })
}

func checkScrubbing(t *rapid.T, b *Broker) {
	background := context.Background()
	values := map[string]string{}
	count := 0
	seal := func(tx *vault.Tx, s *vault.Secret) {
		count++
		v := fmt.Sprintf("value-%d-of-%s-0123456789", count, s.Name)
		if err := tx.Seal(s, secret.FromString(v)); err != nil {
			t.Fatal(err)
		}
		values[s.Value] = v
	}
	m := &scrubModel{held: map[string][]map[string]string{}}
	hosts := []string{"a.test", "b.test"}
	scopes := []string{"global", "workspace:w", "group:w:g1", "group:w:g2", "group:w:g3"}
	contexts := make([]grant.Scope, 0, len(scopes))
	for _, s := range scopes {
		scope, _ := grant.ParseScope(s)
		contexts = append(contexts, scope)
	}
	change := func(do func(tx *vault.Tx)) {
		if _, err := b.vault.Update(background, audit.Record{Event: audit.GrantAdded}, func(tx *vault.Tx) error { do(tx); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	look := func() {
		ix, err := b.index(background)
		if err != nil {
			t.Fatal(err)
		}
		m.look(ix.snapshot.State(), values)
	}
	// Streams that run across all changes.
	type stream struct {
		*watch
		host string
		in   grant.Scope
	}
	var streams []stream
	begin := func(host string, in grant.Scope) {
		set, err := b.scrub.acquire(b.current.Load(), host, in)
		if err != nil {
			t.Fatal(err)
		}
		call := api.Call{}
		p := b.newPlan(grant.Caller{}, &call, egress.Body{})
		p.decision.Host, p.context = host, in
		streams = append(streams, stream{b.newWatch(p, set), host, in})
	}
	pick := func(tx *vault.Tx) *vault.Credential {
		if len(tx.State.Credentials) == 0 {
			return nil
		}
		return &tx.State.Credentials[rapid.IntRange(0, len(tx.State.Credentials)-1).Draw(t, "which")]
	}
	secretOf := func(tx *vault.Tx, id string) *vault.Secret {
		i := slices.IndexFunc(tx.State.Secrets, func(s vault.Secret) bool { return s.ID == id })
		if i < 0 {
			return nil
		}
		return &tx.State.Secrets[i]
	}
	add := func(tx *vault.Tx, id string, secrets map[string]string, scope string) {
		c := vault.Credential{ID: id, Provider: id, Scope: scope, Secrets: secrets, Hosts: hosts[rapid.IntRange(0, 1).Draw(t, "from"):]}
		c.Auth = &api.AuthSpec{Type: "basic"}
		if len(secrets) == 1 {
			c.Auth = &api.AuthSpec{Type: "header"}
		} else if rapid.Bool().Draw(t, "public") {
			c.PublicParts = []string{"username"}
		}
		tx.State.Credentials = append(tx.State.Credentials, c)
	}
	var gone []vault.Credential
	ops := []func(tx *vault.Tx){
		func(tx *vault.Tx) { // rotate
			if c := pick(tx); c != nil {
				for _, f := range slices.Sorted(maps.Keys(c.Secrets)) {
					if s := secretOf(tx, c.Secrets[f]); s != nil {
						s.Version++
						seal(tx, s)
						return
					}
				}
			}
		},
		func(tx *vault.Tx) { // attach or detach
			if c := pick(tx); c != nil && c.Scope != "global" {
				if s := secretOf(tx, c.Secrets["secret"]); s != nil {
					g := scopes[rapid.IntRange(2, 4).Draw(t, "group")]
					if i := slices.Index(s.Groups, g); i >= 0 {
						s.Groups = slices.Delete(s.Groups, i, i+1)
					} else if g != s.Scope {
						s.Groups = append(s.Groups, g)
					}
				}
			}
		},
		func(tx *vault.Tx) { // delete
			if c := pick(tx); c != nil {
				gone = append(gone, *c)
				id := c.ID
				tx.State.Credentials = slices.DeleteFunc(tx.State.Credentials, func(c vault.Credential) bool { return c.ID == id })
			}
		},
		func(tx *vault.Tx) { // make again, in another form
			if len(gone) == 0 {
				return
			}
			c := gone[len(gone)-1]
			gone = gone[:len(gone)-1]
			if slices.ContainsFunc(tx.State.Credentials, func(o vault.Credential) bool { return o.ID == c.ID }) {
				return
			}
			add(tx, c.ID, c.Secrets, c.Scope)
		},
		func(tx *vault.Tx) { // a new one
			id := fmt.Sprint("c", rapid.IntRange(0, 5).Draw(t, "id"))
			if slices.ContainsFunc(tx.State.Credentials, func(o vault.Credential) bool { return o.ID == id }) {
				return
			}
			scope := rapid.SampledFrom(scopes[:4]).Draw(t, "scope")
			fields := []string{"secret"}
			if rapid.Bool().Draw(t, "two") {
				fields = []string{"username", "password"}
			}
			secrets := map[string]string{}
			for _, f := range fields {
				s := vault.Secret{ID: tx.NewID(), Name: fmt.Sprintf("%s_%s_%d", id, f, count), Scope: scope, Version: 1}
				seal(tx, &s)
				tx.State.Secrets = append(tx.State.Secrets, s)
				secrets[f] = s.ID
			}
			add(tx, id, secrets, scope)
		},
		func(tx *vault.Tx) { // something else
			tx.State.GrantDefault = rapid.SampledFrom([]string{api.GrantAllow, api.GrantDeny}).Draw(t, "default")
		},
	}
	look()
	for range rapid.IntRange(1, 40).Draw(t, "steps") {
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0:
			begin(rapid.SampledFrom(hosts).Draw(t, "host"), rapid.SampledFrom(contexts).Draw(t, "context"))
			continue
		case 1, 2, 3, 4: // sets that may be carried over
			host, in := rapid.SampledFrom(hosts).Draw(t, "host"), rapid.SampledFrom(contexts).Draw(t, "context")
			set, err := b.scrub.acquire(b.current.Load(), host, in)
			if err != nil {
				t.Fatal(err)
			}
			set.release()
		}
		op := rapid.SampledFrom(ops).Draw(t, "op")
		change(op)
		if rapid.IntRange(0, 5).Draw(t, "unseen") == 0 {
			continue
		}
		look()
		host := rapid.SampledFrom(hosts).Draw(t, "answers of")
		for _, in := range contexts {
			set, err := b.scrub.acquire(b.current.Load(), host, in)
			if err != nil {
				t.Fatal(err)
			}
			for v := range m.must(host, in) {
				if _, n := set.String(v); n == 0 {
					t.Fatalf("%s in %v: %s passes", host, in, v)
				}
			}
			set.release()
		}
		for _, s := range streams {
			if err := s.watch.look(); err != nil {
				t.Fatal(err)
			}
			for v := range m.must(s.host, s.in) {
				if _, n := s.text(v); n == 0 {
					t.Fatalf("a stream of %s in %v: %s passes", s.host, s.in, v)
				}
			}
		}
	}
	for _, s := range streams {
		s.watch.release()
		s.sets[0].release()
	}
}
