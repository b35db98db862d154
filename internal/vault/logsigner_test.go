package vault

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
)

func signedUpTo(t *testing.T, v *Vault) (signed, last uint64) {
	t.Helper()
	st := v.AuditStatus(t.Context())
	if st == nil {
		t.Fatal("no log")
	}
	return st.Checkpoint, st.Records
}

// Each change is signed when it is made, the lock with all before it, and what
// was appended while the vault was locked when it is open again and closes.
func TestLogIsSigned(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "a", "1")
	if signed, last := signedUpTo(t, v); signed != last || last != 4 {
		t.Errorf("after a change: %d of %d", signed, last)
	}
	key := v.AuditStatus(t.Context()).Key
	must(t, v.Rotate(t.Context(), who, keysource.Request{}))
	if now := v.AuditStatus(t.Context()).Key; now != key || key == "" {
		t.Errorf("the key was %q, and is %q", key, now)
	}
	must(t, v.Lock(t.Context(), who))
	st := v.AuditStatus(t.Context())
	if st.Checkpoint != st.Records || st.Key != "" {
		t.Errorf("locked: %+v", st)
	}
	log, err := v.Audit(t.Context())
	must(t, err)
	_, err = log.Append(t.Context(), audit.Record{Event: audit.CallRefused, Code: "vault_locked"})
	must(t, err)
	must(t, log.Checkpoint())
	if signed, last := signedUpTo(t, v); signed != last-1 {
		t.Errorf("signed without a key: %d of %d", signed, last)
	}
	_, err = v.Unlock(t.Context(), who, keysource.Material{}, 0)
	must(t, err)
	must(t, v.Close())
	x := open(t, cfg)
	if signed, last := signedUpTo(t, x); signed != last {
		t.Errorf("closed: %d of %d", signed, last)
	}
	r, err := audit.Verify(audit.VerifyConfig{Dir: v.logDir(), Key: key})
	if err != nil || r.Problem != nil || r.AfterCheckpoint != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Where the checkpoints were moved away, the daemon signs the log when it opens
// the vault; whoever only looks does not.
func TestLogIsSignedAnew(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "a", "1")
	key := v.AuditStatus(t.Context()).Key
	must(t, v.Close())
	checkpoints := filepath.Join(v.logDir(), "checkpoints")
	must(t, os.Remove(checkpoints))
	must(t, os.Remove(filepath.Join(v.logDir(), "key.pub")))
	x := open(t, cfg)
	mustSnapshot(t, x)
	must(t, x.Close())
	if exists(checkpoints) {
		t.Error("a look signs the log")
	}
	cfg.AuditTend = true
	d := open(t, cfg)
	mustSnapshot(t, d)
	r, err := audit.Verify(audit.VerifyConfig{Dir: v.logDir(), Key: key})
	if err != nil || r.Problem != nil || r.Checkpoints == 0 || r.AfterCheckpoint != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A log cut off behind the vault's last change is refused while the
// checkpoints are there that the vault's key signed, and only for these.
func TestLogCutOffBelowWhatIsSigned(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "a", "1")
	log, err := v.Audit(t.Context())
	must(t, err)
	for range 5 {
		_, err = log.Append(t.Context(), audit.Record{Event: audit.CallRefused, Code: "policy_violation"})
		must(t, err)
	}
	must(t, v.Close())
	segment, checkpoints := filepath.Join(cfg.Dir, "audit", "00000001.jsonl"), filepath.Join(cfg.Dir, "audit", "checkpoints")
	whole, signed := read(t, segment), read(t, checkpoints)
	short := whole[:bytes.LastIndexByte(whole[:len(whole)-1], '\n')+1]
	refused := func(what string) {
		t.Helper()
		x := New(cfg)
		defer x.Close()
		_, err := x.Snapshot(t.Context())
		wantCode(t, err, api.VaultUnavailable, cfg.Dir, "line 9")
	}
	write(t, segment, short)
	refused("cut off")
	other := bytes.Replace(whole, []byte("policy_violation\"}\n"), []byte("policy_violatioN\"}\n"), -1)
	write(t, segment, append(bytes.Clone(short), other[len(short):]...))
	refused("another last line")
	// A checkpoint that another key signed counts for nothing.
	w, cfgW := fileVault(t)
	put(t, w, "a", "1")
	must(t, w.Close())
	alien := bytes.ReplaceAll(read(t, filepath.Join(cfgW.Dir, "audit", "checkpoints")), []byte(idIn(t, filepath.Join(cfgW.Dir, "vault.aiv"))), []byte(idIn(t, filepath.Join(cfg.Dir, "vault.aiv"))))
	write(t, segment, whole)
	write(t, checkpoints, append(bytes.Clone(signed), alien...))
	wantValue(t, open(t, cfg), "a", "1")
	write(t, checkpoints, signed)
	wantValue(t, open(t, cfg), "a", "1")
}

// An opening begins at the newest closing checkpoint: what is before it is left
// to audit verify, unless the checkpoint is not the vault's.
func TestOpeningBeginsAtAClosingCheckpoint(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	v := open(t, cfg)
	v.segmentSize = 1500
	must(t, v.Init(t.Context(), who, keysource.Request{Provider: keysource.File}))
	put(t, v, "a", "1")
	log, err := v.Audit(t.Context())
	must(t, err)
	for range 20 {
		_, err = log.Append(t.Context(), audit.Record{Event: audit.CallRefused, Code: "policy_violation", Reason: "a reason of some length, as they have"})
		must(t, err)
	}
	s := mustSnapshot(t, v)
	public, err := s.auditPublic()
	must(t, err)
	_, closing, err := log.Marks(public)
	must(t, err)
	if closing == nil || closing.Head.Seq <= s.state.AuditHead.Seq || closing.Commit.Generation != s.header.Generation {
		t.Fatalf("%+v", closing)
	}
	from, signed, err := v.startLog(log, &Snapshot{header: s.header, state: s.state})
	must(t, err)
	if from.end != closing.Head || from.last == nil || from.last.Hash != s.hash || signed.Seq < closing.Head.Seq {
		t.Errorf("it begins at %+v", from)
	}
	must(t, v.Close())
	wantValue(t, open(t, cfg), "a", "1")
	// A line between the sealed head and the checkpoint is not looked at again.
	second := filepath.Join(cfg.Dir, "audit", "00000002.jsonl")
	good := read(t, second)
	write(t, second, bytes.Replace(good, []byte("a reason of"), []byte("A reason of"), 1))
	x := New(cfg)
	if _, err := x.Snapshot(t.Context()); err != nil {
		t.Errorf("a closed part was read: %v", err)
	}
	must(t, x.Close())
	// Without checkpoints all of it is.
	checkpoints := filepath.Join(cfg.Dir, "audit", "checkpoints")
	kept := read(t, checkpoints)
	must(t, os.Remove(checkpoints))
	y := New(cfg)
	_, err = y.Snapshot(t.Context())
	wantCode(t, err, api.VaultUnavailable, "00000002.jsonl")
	_ = y.Close()
	// An old document is found by what the checkpoint says was committed.
	write(t, second, good)
	write(t, checkpoints, kept)
	old := read(t, filepath.Join(cfg.Dir, "vault.aiv"))
	z := New(cfg)
	put(t, z, "b", "2")
	must(t, z.Close())
	write(t, filepath.Join(cfg.Dir, "vault.aiv"), old)
	_, err = open(t, cfg).Snapshot(t.Context())
	wantCode(t, err, api.VaultUnavailable, "older than its audit log says")
}
