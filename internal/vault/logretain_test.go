package vault

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
)

// A vault whose log is closed every month and kept for two opens, is changed
// and is checked as if all of the log were there; what was removed was old.
func TestRetention(t *testing.T) {
	t.Parallel()
	const month = 31 * 24 * time.Hour
	var now atomic.Int64
	now.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	cfg := testConfig(t)
	cfg.Clock = func() time.Time { return time.UnixMilli(now.Load()) }
	daemon := cfg
	daemon.AuditTend, daemon.AuditRetain = true, 2*month
	daemon.AuditFailed = func(err error) { t.Error(err) }
	v := open(t, daemon)
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	change := func(v *Vault, n int) {
		now.Add(int64(month / time.Millisecond))
		put(t, v, fmt.Sprint("secret-", n), "value")
	}
	change(v, 0)
	backup := backUp(t, v, "")
	generation := mustSnapshot(t, v).Generation()
	for i := range 7 {
		change(v, i+1)
	}
	first := func() string {
		parts, err := filepath.Glob(filepath.Join(cfg.Dir, "audit", "0*"))
		must(t, err)
		return filepath.Base(parts[0])
	}
	// The tender works in the background; a change wakes it.
	for i := 8; first() < "00000004"; i++ {
		if i > 60 {
			t.Fatalf("still kept: %s", first())
		}
		change(v, i)
		time.Sleep(20 * time.Millisecond)
	}
	// An in-process user of the same vault, who tends nothing.
	other := open(t, cfg)
	change(other, 100)
	if s := mustSnapshot(t, v); len(s.State().Secrets) != len(mustSnapshot(t, other).State().Secrets) {
		t.Error("the two do not see the same")
	}
	log, err := other.Audit(t.Context())
	must(t, err)
	_, err = log.Walk(audit.Head{}, nil)
	must(t, err)
	if _, err := os.Stat(filepath.Join(cfg.Dir, "audit", "00000001.jsonl")); err == nil {
		t.Error("the first part is still there")
	}
	// A vault that is locked does not say what it needs, so that nothing goes.
	if v.sealedHead() == (audit.Head{}) {
		t.Error("an open vault does not say what it needs")
	}
	must(t, v.Lock(t.Context(), who))
	if h := v.sealedHead(); h != (audit.Head{}) {
		t.Errorf("locked, it says %+v", h)
	}
	// A log whose beginning is gone does not say that the vault never held a
	// secret.
	if _, err := neverUsed(log); err == nil {
		t.Error("a log without its beginning passes for one of an empty vault")
	}
	// A backup whose last line is no longer kept is older than the log, not
	// another log's: it is accepted on the log that is there.
	_, err = v.Unlock(t.Context(), who, keysource.Material{}, 0)
	must(t, err)
	wantCode(t, tryRestore(t, v, backup, 0, keysource.Material{}), api.AlreadyExists, "is newer: ", " changes since would be lost")
	if out := restore(t, v, backup, generation, keysource.Material{}); out.MovedLog != "" || !out.Reset {
		t.Errorf("restored %+v", out)
	}
	if s := mustSnapshot(t, wantWhole(t, cfg, keysource.Material{})); len(s.State().Secrets) != 1 {
		t.Errorf("%d secrets", len(s.State().Secrets))
	}
}
