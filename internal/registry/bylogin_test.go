package registry_test

import (
	"testing"

	"moldable.sh/aivault/internal/registry"
)

// Whether a provider's usual login is a person's is read off the index, where
// the files say it as well; and what is dedicated alone can be stored, too.
func TestByLogin(t *testing.T) {
	r, err := registry.Load()
	if err != nil {
		t.Fatal(err)
	}
	byLogin := 0
	for _, id := range r.Providers() {
		s, p := r.Summary(id), r.Provider(id)
		if len(s.First) == 0 {
			t.Errorf("%s: nothing is said of what to store", id)
			continue
		}
		if want := len(s.First) == 1 && p.ByLogin(s.First[0]); s.ByLogin() != want {
			t.Errorf("%s: by login in the index %v, in the file %v", id, s.ByLogin(), want)
		}
		if s.ByLogin() {
			byLogin++
		}
	}
	if byLogin < 10 {
		t.Errorf("only %d providers have a person's login first", byLogin)
	}
	if p := r.Provider("gitlab"); !p.ByLogin("GITLAB_OAUTH") || p.ByLogin("GITLAB_TOKEN") {
		t.Error("gitlab's logins are mixed up")
	}
}
