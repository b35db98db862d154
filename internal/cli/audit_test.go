package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
)

// hostile are texts that would begin a line, end a string, or steer a terminal.
var hostile = []string{
	"x\n2030-01-01T00:00:00Z  1  vault.created  root", "\r\x1b[2K\x1b[1A", "\x1b]0;owned\x07", "\u009b31m", "\u202egpj.exe\u2066",
	"a\tb\vc\f", "\u2028\u2029\u0085", "\"}\n{\"seq\":1", `\u000a\n`, "\xff\xfe\x00", "\u200b\ufeff\u00ad", "\U000e0041",
}

// hostileLog is a log whose records hold these texts wherever a caller, or a
// program, or a name in the system's user database can put one.
func hostileLog(t *testing.T) *audit.Log {
	t.Helper()
	l, err := audit.Create(audit.Config{Dir: filepath.Join(t.TempDir(), "audit"), VaultID: "v"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, h := range hostile {
		who := &audit.Caller{UID: 7, User: h, Program: h}
		for _, r := range []audit.Record{
			{Event: audit.CallRefused, RequestID: "r", Caller: who, Capability: h, Method: h, Host: h, Path: h, Set: h, Scope: h, Code: h, Reason: h, Count: 41},
			{Event: audit.OperatorRefused, Caller: who, Object: h, Code: "operator_required"},
			{Event: audit.EchoRedacted, Caller: who, Capability: h, Host: h, Redactions: 2},
			{Event: audit.SecretCreated, Caller: who, Name: h, Provider: h, Generation: 1},
			{Event: audit.GrantAdded, Caller: who, Name: h, Capability: h},
			{Event: audit.BindingSet, Caller: who, Credential: h, Name: h, Capability: h},
		} {
			if _, err := l.Append(context.Background(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	return l
}

// wantPlain fails on anything but so many lines of text that does nothing but
// show.
func wantPlain(t *testing.T, what, out string, lines int) {
	t.Helper()
	if n := strings.Count(out, "\n"); n != lines {
		t.Errorf("%s: %d lines, want %d", what, n, lines)
	}
	for i, r := range out {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("%s: %U in %q", what, r, out[max(0, i-40):min(len(out), i+40)])
		}
	}
}

func TestNoNameForgesALine(t *testing.T) {
	l := hostileLog(t)
	lines, err := l.Find(audit.Query{})
	if err != nil {
		t.Fatal(err)
	}
	var list api.AuditList
	o, out, _ := testOptions(t, nil)
	for _, line := range lines {
		list.Records = append(list.Records, api.RawRecord(line))
		wantPlain(t, "a line of the log", string(line), 0)
		if err := o.printTable(followedRow(line)); err != nil {
			t.Fatal(err)
		}
	}
	wantPlain(t, "--follow", out.String(), len(lines))
	if got := strings.Count(out.String(), "and 41 more like it\n"); got != len(hostile) {
		t.Errorf("%d counts are shown", got)
	}
	out.Reset()
	if err := o.printTable(auditTable(list)); err != nil {
		t.Fatal(err)
	}
	wantPlain(t, "the table", out.String(), len(lines)+1)
	for i, row := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")[1:] {
		if f := strings.Fields(row); f[1] != fmt.Sprint(i+1) {
			t.Errorf("row %d is %q", i+1, row)
		}
	}
	out.Reset()
	if err := o.printJSON(list); err != nil {
		t.Fatal(err)
	}
	wantPlain(t, "--json", out.String(), strings.Count(out.String(), "\n"))
	if got := strings.Count(out.String(), `"seq":`); got != len(lines) {
		t.Errorf("%d records where %d are", got, len(lines))
	}
}

func TestTimesOfTheAuditLog(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]int64{
		"": 0, "1h": now.Add(-time.Hour).UnixMilli(), "0s": now.UnixMilli(), "90m30s": now.Add(-5430 * time.Second).UnixMilli(),
		"2026-01-31T12:00:00Z": now.UnixMilli(), "2026-01-31T13:00:00+01:00": now.UnixMilli(),
	} {
		if got, err := pointInTime("since", text, now); got != want || err != nil {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"-1h", "yesterday", "2026-01-31", "1", "1969-01-01T00:00:00Z", "900000h", "\x1b[2J"} {
		if _, err := pointInTime("since", text, now); api.CodeOf(err) != api.InvalidRequest {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWhatVerifySays(t *testing.T) {
	report := audit.Report{VaultID: "v", Key: "aivault/v+00000000+AA", Records: 9, FirstSeq: 4, LastSeq: 12, Segments: 2, Checkpoints: 3, AfterCheckpoint: 1}
	for want, change := range map[string]func(*audit.Report){
		"OK: 9 records (4 to 12) in 2 files; 1 record follows the last of 3 checkpoints; key aivault/v+00000000+AA\n": func(*audit.Report) {},
		"OK: 9 records (4 to 12) in 2 files; no signature was checked, because there is no key\n":                     func(r *audit.Report) { r.Key = "" },
		"OK: 9 records (4 to 12) in 2 files; nothing is signed yet; key aivault/v+00000000+AA\n":                      func(r *audit.Report) { r.Checkpoints = 0 },
		"NOT OK: 00000002.jsonl, line 7: it\\u000ais\\u001b[2J bad\n": func(r *audit.Report) {
			r.Problem = &audit.ChainError{File: "00000002.jsonl", Line: 7, Why: "it\nis\x1b[2J bad"}
		},
	} {
		r := report
		change(&r)
		o, out, _ := testOptions(t, nil)
		err := o.printReport(r, "")
		if exit, _ := err.(exitStatus); (r.Problem != nil) != (exit == 1) {
			t.Errorf("%q: %v", want, err)
		}
		if out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}
