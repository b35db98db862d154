package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"moldable.sh/aivault/internal/durable"
)

// Whoever takes the log away and leaves what lies beside it is found out.
func TestVerifyOfALogThatWasRemoved(t *testing.T) {
	for _, name := range []string{checkpointsName, keyName, lockName} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		wantProblem(t, verify(t, against(t, dir)), seg1, 0, "the log was removed: "+name+" is there")
	}
	cfg := config(t)
	verified(t, cfg, 9, 5)
	if err := os.Remove(filepath.Join(cfg.Dir, seg1)); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, verify(t, VerifyConfig{Dir: cfg.Dir}), seg1, 0, "the log was removed")
}

// A part that whoever appends would not open is no good part, though there is
// nothing in it to read.
func TestVerifyOpensEachPart(t *testing.T) {
	cfg := config(t)
	verified(t, cfg, 9, 5)
	next := filepath.Join(cfg.Dir, seg2)
	for name, c := range map[string]struct {
		make func() error
		fix  string
	}{
		"pipe":      {func() error { return syscall.Mkfifo(next, 0o600) }, "rm "},
		"directory": {func() error { return os.Mkdir(next, 0o700) }, "mv "},
		"link":      {func() error { return os.Symlink(filepath.Join(t.TempDir(), "x"), next) }, "rm "},
		"open to all": {func() error {
			return errors.Join(os.WriteFile(next, nil, 0o600), os.Chmod(next, 0o666))
		}, "chmod 600 "},
		"packed pipe":  {func() error { return syscall.Mkfifo(next+packedSuffix, 0o600) }, "rm "},
		"a later pipe": {func() error { return syscall.Mkfifo(filepath.Join(cfg.Dir, seg3), 0o600) }, ""},
		"none of them": {func() error { return os.WriteFile(next, nil, 0o600) }, ""},
	} {
		if err := c.make(); err != nil {
			t.Fatal(err)
		}
		r, err := Verify(against(t, cfg.Dir))
		var open *durable.PermissionError
		switch {
		case c.fix != "" && (!errors.As(err, &open) || !strings.HasPrefix(open.Fix, c.fix)):
			t.Errorf("%s: %+v, %v", name, r, err)
		case name == "none of them" && (err != nil || r.Problem != nil):
			t.Errorf("%s: %+v, %v", name, r, err)
		case name == "a later pipe" && err == nil && r.Problem == nil:
			t.Errorf("%s: %+v", name, r)
		}
		for _, path := range []string{next, next + packedSuffix, filepath.Join(cfg.Dir, seg3)} {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
}

// What is named as the way out of what is wrong with the checkpoints works,
// and nothing is named that would lose the start of a log.
func TestMend(t *testing.T) {
	cfg := config(t)
	files := verified(t, cfg, 9, 5)
	other := config(t)
	other.VaultID = "other"
	foreign := verified(t, other, 9, 5)[checkpointsName]
	path := checkpointsOf(cfg)
	for name, c := range map[string]struct{ checkpoints, why string }{
		"another vault's": {string(foreign), "of another vault"},
		"with another's":  {string(foreign) + string(files[checkpointsName]), "of another vault"},
		"garbage":         {"hello\n\n" + originPrefix, "not written as a checkpoint is"},
		"too large":       {"", "larger than it can be"},
		"gone":            {"", "there is no checkpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			f := files.clone()
			f[checkpointsName] = []byte(c.checkpoints)
			if name == "gone" {
				delete(f, checkpointsName)
			}
			f.put(t, cfg.Dir)
			if name == "too large" {
				if err := os.Truncate(path, MaxCheckpoints+1); err != nil {
					t.Fatal(err)
				}
			}
			r := verify(t, VerifyConfig{Dir: cfg.Dir})
			if r.Problem == nil || r.Problem.File != checkpointsName || !strings.Contains(r.Problem.Why, c.why) {
				t.Fatalf("%+v", r.Problem)
			}
			want := "mv -n " + path + " " + path + ".aside && " + SignAnew
			if name == "gone" {
				want = SignAnew
			}
			if got := r.Problem.Mend(cfg.Dir); got != want {
				t.Fatalf("%q, want %q", got, want)
			}
			if name != "gone" {
				if err := os.Rename(path, path+".aside"); err != nil {
					t.Fatal(err)
				}
				// What is evidence is not written over by the next.
				if got := r.Problem.Mend(cfg.Dir); got != SignAnew {
					t.Errorf("%q", got)
				}
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if got := r.Problem.Mend(cfg.Dir); !strings.Contains(got, path+".aside-2 && ") {
					t.Errorf("%q", got)
				}
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			l := openSigned(t, cfg)
			sign(t, l)
			if r := verify(t, against(t, cfg.Dir)); r.Problem != nil || r.SignedSeq != 9 {
				t.Errorf("signed anew: %+v, %v", r, r.Problem)
			}
			l.Close()
		})
	}
	p := &ChainError{File: checkpointsName, Line: 1, Why: "x"}
	pruned := t.TempDir()
	if err := os.WriteFile(filepath.Join(pruned, seg2), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := p.Mend(pruned); !strings.HasPrefix(got, "put the file checkpoints back") || strings.Contains(got, "mv ") {
		t.Errorf("of a log whose start is not kept: %q", got)
	}
	if got := (&ChainError{File: seg1, Line: 3}).Mend(cfg.Dir); got != LogLost {
		t.Errorf("of a line: %q", got)
	}
	if got := (&ChainError{File: keyName}).Mend(cfg.Dir); got != "aivault doctor" {
		t.Errorf("of the key: %q", got)
	}
}

// A key beside the log that is none of this vault's says nothing about the
// log: it is what is wrong, and the way out is not another log.
func TestVerifyOfAnotherKeyBesideTheLog(t *testing.T) {
	cfg := config(t)
	verified(t, cfg, 9, 5)
	path := filepath.Join(cfg.Dir, keyName)
	for name, text := range map[string]string{
		"of another vault": verifierKey(t, Config{VaultID: "other"}, testKey(1)) + "\n",
		"none":             "garbage\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := verify(t, VerifyConfig{Dir: cfg.Dir, VaultID: vaultID, Named: true})
		if r.Problem == nil || r.Problem.File != keyName || r.Problem.Mend(cfg.Dir) != "aivault doctor" || r.Records != 9 {
			t.Errorf("%s: %+v, %v", name, r, r.Problem)
		}
		if r.Key != "" || r.KeyFrom != "" || r.Checkpoints != 0 {
			t.Errorf("%s: it was taken: %+v", name, r)
		}
	}
	for _, name := range []string{keyName, checkpointsName} {
		if err := os.Remove(filepath.Join(cfg.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Verify(VerifyConfig{Dir: cfg.Dir, VaultID: vaultID, Named: true}); !errors.Is(err, ErrUnnamed) {
		t.Errorf("with nothing beside it: %v", err)
	}
}
