package registry

import "testing"

// A login without hosts of its own goes to the provider's, one with some to
// these alone.
func TestReaches(t *testing.T) {
	p := &Provider{Hosts: []string{"a.test", "b.test"}}
	own := &Login{Hosts: []string{"c.test"}}
	for _, c := range []struct {
		login *Login
		hosts []string
		want  bool
	}{
		{&Login{}, []string{"a.test"}, true},
		{&Login{}, []string{"a.test", "b.test"}, true},
		{&Login{}, []string{"c.test"}, false},
		{&Login{}, []string{"a.test", "c.test"}, false},
		{own, []string{"c.test"}, true},
		{own, []string{"a.test"}, false},
		{own, []string{"c.test", "a.test"}, false},
	} {
		if got := p.Reaches(c.login, c.hosts); got != c.want {
			t.Errorf("%v reaches %v: %v", c.login.Hosts, c.hosts, got)
		}
	}
}
