package daemon

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/peer"
)

func TestAuditFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		want AuditOptions
		ok   bool
	}{
		{"", AuditOptions{}, true},
		{"--audit-durability batch", AuditOptions{}, true},
		{"--audit-durability sync", AuditOptions{Sync: true}, true},
		{"--audit-durability=sync --audit-retention=90d", AuditOptions{Sync: true, Retain: 90 * 24 * time.Hour}, true},
		{"--audit-retention 2160h", AuditOptions{Retain: 2160 * time.Hour}, true},
		{"--audit-retention 1h", AuditOptions{Retain: time.Hour}, true},
		{"--audit-retention 65535d", AuditOptions{Retain: 65535 * 24 * time.Hour}, true},
		{"--audit-durability always", AuditOptions{}, false},
		{"--audit-durability SYNC", AuditOptions{}, false},
		{"--audit-durability=", AuditOptions{}, false},
		{"--audit-retention=", AuditOptions{}, false},
		{"--audit-retention 0", AuditOptions{}, false},
		{"--audit-retention 0d", AuditOptions{}, false},
		{"--audit-retention -90d", AuditOptions{}, false},
		{"--audit-retention +90d", AuditOptions{}, false},
		{"--audit-retention 1.5d", AuditOptions{}, false},
		{"--audit-retention 65536d", AuditOptions{}, false},
		{"--audit-retention 90", AuditOptions{}, false},
		{"--audit-retention 59m", AuditOptions{}, false},
		{"--audit-retention -2160h", AuditOptions{}, false},
		{"--audit-retention 90d1h", AuditOptions{}, false},
	} {
		cfg, _, err := parse(strings.Fields(c.args), new(bytes.Buffer))
		if (err == nil) != c.ok || c.ok && cfg.Audit != c.want {
			t.Errorf("%q: %+v, %v", c.args, cfg.Audit, err)
		}
	}
}

// docs/environment.md lists the flags that the help names.
func TestFlagsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/environment.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## The daemon's flags")
	section, _, _ = strings.Cut(section, "\n## ")
	names := func(text, pattern string) (out []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			out = append(out, m[1])
		}
		return out
	}
	documented, helped := names(section, "(?m)^\\| `(--[a-z-]+)"), names(usage, `(?m)^  (--[a-z-]+)`)
	if !slices.Equal(documented, helped) || len(helped) < 6 {
		t.Errorf("documented %q, in the help %q", documented, helped)
	}
}

// What the flags say reaches the log, and only a daemon tends it.
func TestAuditFlagsReachTheLog(t *testing.T) {
	for _, sync := range []bool{false, true} {
		e := envFor(t)
		inst, err := New(Options{Env: e, Audit: AuditOptions{Sync: sync}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := inst.admin.Init(t.Context(), peer.Self(), api.KeyOptions{Provider: "file"}); err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{false: "batch", true: "sync"}[sync]
		if st := inst.vault.AuditStatus(t.Context()); st == nil || st.Durability != want {
			t.Errorf("%+v, want %s", st, want)
		}
		if err := inst.Close(); err != nil {
			t.Error(err)
		}
	}
}
