package broker

import (
	"fmt"
	"slices"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/vault"
)

// replace gives the secret of p7 another value.
func replace(t *testing.T, b *Broker, value string) {
	t.Helper()
	if _, err := b.vault.Update(t.Context(), audit.Record{Event: audit.SecretRotated}, func(tx *vault.Tx) error {
		for i := range tx.State.Secrets {
			if s := &tx.State.Secrets[i]; s.Name == "p7" {
				s.Version++
				return tx.Seal(s, secret.FromString(value))
			}
		}
		return fmt.Errorf("no secret")
	}); err != nil {
		t.Fatal(err)
	}
	b.Observe(t.Context())
}

// Of what was replaced, the last values are scrubbed, and the broker does not
// grow with the others.
func TestReplacedValuesAreBounded(t *testing.T) {
	t.Parallel()
	b := manyEntries(t, 10)
	value := func(i int) string { return fmt.Sprintf("value-of-the-%dth-time", i) }
	const most = keptOfOne + 10
	for i := range most {
		replace(t, b, value(i))
	}
	set, err := b.scrub.acquire(b.current.Load(), "p7.test", grant.Global)
	if err != nil {
		t.Fatal(err)
	}
	defer set.release()
	for i := range most {
		_, found := set.String("it was " + value(i) + " once")
		if want := i >= most-1-keptOfOne; (found == 1) != want {
			t.Errorf("the value of the %dth time of %d: found %d times", i, most, found)
		}
	}
	if n := len(b.scrub.retired); n != keptOfOne {
		t.Errorf("%d values are kept", n)
	}
}

// However many credentials come and go, what is kept of them is bounded, and
// the newest stay.
func TestWhatIsKeptOfAllIsBounded(t *testing.T) {
	t.Parallel()
	s := newScrubber(nil)
	first := secret.FromString("the-very-first-value")
	for i := range keptInAll + 1 {
		v := first
		if i > 0 {
			v = secret.FromString("value")
		}
		s.hold(fmt.Sprint(i), retired{of: fmt.Sprint("credential|", i/2), values: []secret.Value{v}})
	}
	if n := len(s.retired); n != keptInAll*3/4+1 {
		t.Errorf("%d are kept", n)
	}
	for i := range keptInAll + 1 {
		if _, kept := s.retired[fmt.Sprint(i)]; kept != (i >= keptInAll/4) {
			t.Fatalf("the %dth: kept %v", i, kept)
		}
	}
	if n := len(s.kept); n != keptInAll*3/8+1 {
		t.Errorf("%d owners are known", n)
	}
	if !first.Equal(secret.New(make([]byte, first.Len()))) {
		t.Error("a value that is forgotten is not wiped")
	}
}

// What is used again and goes again is as new as any other, and one value that
// is attached here and there takes the place of no other.
func TestWhatIsReplacedLastStays(t *testing.T) {
	t.Parallel()
	s := newScrubber(nil)
	hold := func(name, of, host string, values ...string) {
		r := retired{of: of, hosts: []string{host}}
		for _, v := range values {
			r.values = append(r.values, secret.FromString(v))
		}
		s.hold(name, r)
	}
	hold("first", "credential|a", "a.test", "value", "rendered so")
	for i := range keptInAll - 1 {
		hold(fmt.Sprint(i), fmt.Sprint("credential|", i), "b.test", "other")
	}
	hold("first", "credential|a", "b.test", "value", "rendered otherwise")
	hold("last", "credential|b", "b.test", "other")
	r := s.retired["first"]
	if !slices.Equal(r.hosts, []string{"a.test", "b.test"}) || len(r.values) != 3 || len(s.kept["credential|a"]) != 1 {
		t.Errorf("%d values for %v", len(r.values), r.hosts)
	}
	for _, v := range []string{"value", "rendered so", "rendered otherwise"} {
		if !slices.ContainsFunc(r.values, secret.FromString(v).Equal) {
			t.Errorf("%q is not held", v)
		}
	}
	for i := range mostOfOne {
		hold("first", "credential|a", "a.test", fmt.Sprint("rendered at ", i))
	}
	if n := len(s.retired["first"].values); n > mostOfOne {
		t.Errorf("%d values are held", n)
	}

	b := manyEntries(t, 10)
	change := func(do func(s *vault.Secret)) {
		t.Helper()
		if _, err := b.vault.Update(t.Context(), audit.Record{Event: audit.GrantAdded}, func(tx *vault.Tx) error {
			i := slices.IndexFunc(tx.State.Secrets, func(s vault.Secret) bool { return s.Name == "p7" })
			do(&tx.State.Secrets[i])
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		b.Observe(t.Context())
	}
	replace(t, b, "another-value")
	for i := range keptOfOne + 1 {
		change(func(s *vault.Secret) { s.Groups = append(s.Groups, fmt.Sprint("group:w:g", i)) })
	}
	set, err := b.scrub.acquire(b.current.Load(), "p7.test", grant.Global)
	if err != nil {
		t.Fatal(err)
	}
	defer set.release()
	if _, found := set.String("it was value-0123456789-p7 once"); found != 1 {
		t.Error("the one value that was replaced is not found")
	}
}

// What is public to one who has a token may be a secret to another.
func TestWhatIsSecretToOneOfATokensUsersIsKept(t *testing.T) {
	t.Parallel()
	ix := &index{credentials: map[string]*credential{}}
	for id, public := range map[string][]string{"a": {"id", "region"}, "b": {"id"}, "c": {"id", "region"}} {
		c := &credential{Credential: &vault.Credential{ID: id, Secrets: map[string]string{"id": "s"}}, index: ix, publics: map[string]bool{}}
		c.checked.Do(func() {})
		for _, f := range public {
			c.publics[f] = true
		}
		ix.credentials[id] = c
	}
	for range 20 { // in any order
		_, _, public := ix.usersOf(&vault.Token{Sources: map[string]uint64{"s": 1}})
		if len(public) != 1 || !public["id"] {
			t.Fatalf("public: %v", public)
		}
	}
}

// A stream during which values are replaced keeps what is new, not all there
// is once more for every change.
func TestAStreamKeepsWhatIsNew(t *testing.T) {
	t.Parallel()
	b := manyEntries(t, 10)
	call := api.Call{Capability: "p7/all", Request: api.Request{Method: "GET", Path: "/v1/models"}}
	p := b.newPlan(grant.Caller{}, &call, egress.Body{})
	if _, err := b.decide(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	set, err := b.scrub.acquire(b.current.Load(), "p7.test", p.context)
	if err != nil {
		t.Fatal(err)
	}
	defer set.release()
	w := b.newWatch(p, set)
	defer w.release()
	for i := range 20 {
		next := fmt.Sprintf("another-value-%d", i)
		replace(t, b, next)
		if err := w.look(); err != nil {
			t.Fatal(err)
		}
		if n := len(w.sets); n != i+2 {
			t.Fatalf("%d sets after %d changes", n, i+1)
		}
		if n := w.sets[i+1].Len(); n != set.Len() {
			t.Errorf("the %dth change: a set of %d values, the first one had %d", i+1, n, set.Len())
		}
		if _, found := w.text("it is " + next); found != 1 {
			t.Errorf("the %dth value is not found", i+1)
		}
		if err := w.look(); err != nil || len(w.sets) != i+2 {
			t.Errorf("nothing changed: %d sets, %v", len(w.sets), err)
		}
	}
}

// What answers are scrubbed of is made anew where it became other values, and
// by no other change.
func TestSetsOutliveOtherChanges(t *testing.T) {
	t.Parallel()
	b := manyEntries(t, 10)
	change := func(do func(tx *vault.Tx)) {
		t.Helper()
		if _, err := b.vault.Update(t.Context(), audit.Record{Event: audit.GrantAdded}, func(tx *vault.Tx) error { do(tx); return nil }); err != nil {
			t.Fatal(err)
		}
		b.Observe(t.Context())
	}
	set := func() *scrubSet {
		t.Helper()
		set, err := b.scrub.acquire(b.current.Load(), "p7.test", grant.Global)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(set.release)
		return set
	}
	credential := func(tx *vault.Tx, id string) *vault.Credential {
		i := slices.IndexFunc(tx.State.Credentials, func(c vault.Credential) bool { return c.ID == id })
		return &tx.State.Credentials[i]
	}
	first := set()
	change(func(tx *vault.Tx) { tx.State.GrantDefault = api.GrantDeny })
	change(func(tx *vault.Tx) { credential(tx, "p8").PublicParts = []string{"secret"} })
	if set() != first {
		t.Error("a change of something else made another set")
	}
	if first.index.Load() != b.current.Load() {
		t.Error("the set keeps an index that is gone")
	}
	last := first
	for _, of := range []struct {
		name string
		do   func(tx *vault.Tx)
	}{
		{"a field that is a secret no more", func(tx *vault.Tx) { credential(tx, "p7").PublicParts = []string{"secret"} }},
		{"a field that is a secret again", func(tx *vault.Tx) { credential(tx, "p7").PublicParts = nil }},
		{"another login", func(tx *vault.Tx) { credential(tx, "p7").Auth = &api.AuthSpec{Type: "basic"} }},
		{"another credential for the host", func(tx *vault.Tx) { credential(tx, "p9").Hosts = []string{"p7.test"} }},
	} {
		change(of.do)
		if now := set(); now == last {
			t.Errorf("%s: the set is the same", of.name)
		} else {
			last = now
		}
	}
	replace(t, b, "another-value")
	if set() == last {
		t.Error("another value: the set is the same")
	}
}
