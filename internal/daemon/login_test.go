package daemon

import (
	"sync"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/peer"
)

// A daemon that would leave stays while somebody is logging in.
func TestALoginKeepsTheDaemon(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	inst, err := New(Options{Env: envFor(t), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close()
	if inst.needed(t.Context()) {
		t.Fatal("needed for nothing")
	}
	who := peer.Self()
	start := func() api.OAuthLogin {
		t.Helper()
		l, err := inst.admin.StartLogin(t.Context(), who, api.OAuthStart{Provider: "gitlab", Flow: api.FlowCode, ClientID: "app", RedirectURI: "http://127.0.0.1:4711/callback"})
		if err != nil {
			t.Fatal(err)
		}
		if !inst.needed(t.Context()) {
			t.Error("not needed while somebody logs in")
		}
		return l
	}
	l := start()
	if _, err := inst.admin.FinishLogin(t.Context(), who, l.ID, api.OAuthAnswer{Error: "access_denied"}); err == nil || inst.needed(t.Context()) {
		t.Errorf("needed for a login that was given up (%v)", err)
	}
	start()
	mu.Lock()
	now = now.Add(5 * time.Minute)
	mu.Unlock()
	if inst.needed(t.Context()) {
		t.Error("needed for a login that is too old")
	}
	start()
	if _, err := inst.admin.Lock(t.Context(), who); err != nil || inst.needed(t.Context()) {
		t.Errorf("needed for a login of a vault that was locked (%v)", err)
	}
}
