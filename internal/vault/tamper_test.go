package vault

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
)

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	must(t, os.WriteFile(path, b, 0o600))
}

// One flipped bit anywhere in the document is an error that names the vault.
func TestEveryByteIsGuarded(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "sk-value")
	path := filepath.Join(cfg.Dir, "vault.aiv")
	whole := read(t, path)
	x := open(t, cfg)
	for i := range whole {
		for _, bit := range []byte{1, 0x20, 0x80} {
			damaged := bytes.Clone(whole)
			damaged[i] ^= bit
			write(t, path, damaged)
			_, err := x.Snapshot(t.Context())
			if err == nil {
				t.Fatalf("byte %d of %d, bit %#x: opened", i, len(whole), bit)
			}
			if msg := err.Error(); !strings.Contains(msg, cfg.Dir) || api.CodeOf(err) == api.Internal {
				t.Fatalf("byte %d, bit %#x: %s: %v does not name the vault", i, bit, api.CodeOf(err), err)
			}
		}
	}
	for _, n := range []int{0, 1, 10, len(whole) / 2, len(whole) - 1} {
		write(t, path, whole[:n])
		_, err := x.Snapshot(t.Context())
		wantCode(t, err, api.VaultUnavailable, cfg.Dir)
	}
	write(t, path, append(bytes.Clone(whole), 'x'))
	_, err := x.Snapshot(t.Context())
	wantCode(t, err, api.VaultUnavailable, cfg.Dir)
	write(t, path, whole)
	wantValue(t, x, "one", "sk-value")
}

// The same for a vault with a passphrase, where a damaged parameter must not
// be taken for a wrong guess that costs a gigabyte.
func TestEveryHeaderByteOfAPassphraseVault(t *testing.T) {
	t.Parallel()
	v, cfg := passVault(t, "p")
	put(t, v, "one", "1")
	path := filepath.Join(cfg.Dir, "vault.aiv")
	whole := read(t, path)
	line := bytes.IndexByte(whole, '\n')
	for i := range line + 1 {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1
		if bytes.Contains(damaged, []byte(`"salt"`)) && i > bytes.Index(whole, []byte(`"argon2id"`)) && i%24 != 0 {
			continue // a derivation each: a few stand for all
		}
		write(t, path, damaged)
		x := open(t, cfg)
		_, err := x.Unlock(t.Context(), who, pass("p"), 0)
		if err == nil || !strings.Contains(err.Error(), cfg.Dir) {
			t.Fatalf("byte %d: error = %v", i, err)
		}
	}
}

func TestAbsurdHeaders(t *testing.T) {
	t.Parallel()
	v, cfg := passVault(t, "p")
	path := filepath.Join(cfg.Dir, "vault.aiv")
	whole := string(read(t, path))
	must(t, v.Close())
	for name, edit := range map[string]func(string) string{
		"memory":      func(s string) string { return strings.Replace(s, `"memoryKiB":8192`, `"memoryKiB":4294967295`, 1) },
		"time":        func(s string) string { return strings.Replace(s, `"time":1`, `"time":4294967295`, 1) },
		"parallelism": func(s string) string { return strings.Replace(s, `"parallelism":1`, `"parallelism":255`, 1) },
		"no argon":    func(s string) string { return strings.Replace(s, `"argon2id":{`, `"argon3id":{`, 1) },
		"long header": func(s string) string { return strings.Replace(s, `"used"`, strings.Repeat(" ", maxHeader)+`"used"`, 1) },
		"no newline":  func(s string) string { return strings.Repeat("x", 3*maxHeader) },
		"white space": func(s string) string { return strings.Replace(s, `,"used"`, `, "used"`, 1) },
		"duplicate":   func(s string) string { return strings.Replace(s, `,"used"`, `,"used":false,"used"`, 1) },
		"unknown":     func(s string) string { return strings.Replace(s, `,"used"`, `,"x":1,"used"`, 1) },
		"version":     func(s string) string { return strings.Replace(s, `"aivaultVault":1`, `"aivaultVault":2`, 1) },
		"generation":  func(s string) string { return strings.Replace(s, `"generation":1`, `"generation":0`, 1) },
		"provider":    func(s string) string { return strings.Replace(s, `"passphrase"`, `"none"`, 1) },
		"dev":         func(s string) string { return strings.Replace(s, `,"key"`, `,"dev":false,"key"`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			changed := edit(whole)
			if changed == whole {
				t.Fatal("nothing was changed")
			}
			write(t, path, []byte(changed))
			x := open(t, cfg)
			_, err := x.Unlock(t.Context(), who, pass("p"), 0)
			wantCode(t, err, api.VaultUnavailable, cfg.Dir)
			if n := x.readAttempts(); n != 0 {
				t.Error("it was tried")
			}
		})
	}
}

func TestHugeFileIsRefusedUnread(t *testing.T) {
	t.Parallel()
	_, cfg := fileVault(t)
	must(t, os.Truncate(filepath.Join(cfg.Dir, "vault.aiv"), maxFile+1))
	x := open(t, cfg)
	_, err := x.Snapshot(t.Context())
	wantCode(t, err, api.VaultUnavailable, cfg.Dir, "larger")
	if blob, _, err := x.store.Load(); !errors.Is(err, errTooLarge) || blob != nil {
		t.Errorf("the store read %d bytes: %v", len(blob), err)
	}
}

func TestOldCopyIsRefused(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	path := filepath.Join(cfg.Dir, "vault.aiv")
	copies := [][]byte{read(t, path)}
	for _, id := range []string{"a", "b", "c"} {
		put(t, v, id, id)
		copies = append(copies, read(t, path))
	}
	must(t, v.Rotate(t.Context(), who, keysource.Request{Provider: keysource.File}))
	put(t, v, "d", "d")
	newest := read(t, path)
	key := read(t, cfg.DefaultKeyFile)
	for i, old := range copies {
		write(t, path, old)
		for _, x := range []*Vault{v, open(t, cfg)} { // in a running process, too
			_, err := x.Snapshot(t.Context())
			wantCode(t, err, api.VaultUnavailable, cfg.Dir)
			_, err = tryPut(t.Context(), x, "new", "x")
			wantCode(t, err, api.VaultUnavailable)
		}
		if i > 0 {
			wantCode(t, open(t, cfg).Init(t.Context(), who, passRequest("p")), api.AlreadyExists)
		}
	}
	write(t, path, newest)
	write(t, cfg.DefaultKeyFile, key)
	wantValue(t, v, "d", "d")
	// An old copy that the present key opens.
	put(t, v, "e", "e")
	write(t, path, newest)
	for _, x := range []*Vault{v, open(t, cfg)} {
		_, err := x.Snapshot(t.Context())
		wantCode(t, err, api.VaultUnavailable, cfg.Dir, "older than its audit log says (generation 6; the log's last is 7)")
	}
	if strings.Contains(strings.Join(events(t, v), " "), "vault.committed vault.committed") {
		t.Error("an old copy was recorded as committed")
	}
}

// The log that the vault leans on: missing, broken, shorter, another's.
func TestDamagedLogIsRefused(t *testing.T) {
	t.Parallel()
	lines := func(b []byte) [][]byte { return bytes.SplitAfter(b, []byte("\n")) }
	for name, c := range map[string]struct {
		damage func(t *testing.T, log []byte) []byte // nil: remove
		want   string
	}{
		"missing":  {func(*testing.T, []byte) []byte { return nil }, "missing"},
		"emptied":  {func(*testing.T, []byte) []byte { return []byte{} }, "ends before"},
		"shorter":  {func(_ *testing.T, b []byte) []byte { return bytes.Join(lines(b)[:3], nil) }, "ends before"},
		"one byte": {func(_ *testing.T, b []byte) []byte { b[len(b)-150] ^= 1; return b }, ""},
		"head's line changed": {func(_ *testing.T, b []byte) []byte {
			l := lines(b)
			l[4] = bytes.Replace(l[4], []byte("secret.created"), []byte("secret.deleted"), 1)
			return bytes.Join(l, nil)
		}, ""},
		"line dropped": {func(_ *testing.T, b []byte) []byte { l := lines(b); return bytes.Join(append(l[:2:2], l[3:]...), nil) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v, cfg := fileVault(t)
			put(t, v, "a", "1")
			put(t, v, "b", "1")
			must(t, v.Close())
			path := filepath.Join(cfg.Dir, "audit", "00000001.jsonl")
			log := read(t, path)
			if damaged := c.damage(t, bytes.Clone(log)); damaged == nil {
				must(t, os.RemoveAll(filepath.Dir(path)))
			} else {
				write(t, path, damaged)
			}
			x := open(t, cfg)
			_, err := x.Snapshot(t.Context())
			wantCode(t, err, api.VaultUnavailable, cfg.Dir, c.want)
			_, err = tryPut(t.Context(), x, "c", "1")
			wantCode(t, err, api.VaultUnavailable)
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			write(t, path, log)
			wantValue(t, open(t, cfg), "b", "1")
		})
	}
}

// unsign removes the last n checkpoints: a line that a crash kept back was not
// signed either.
func unsign(t *testing.T, cfg Config, n int) {
	t.Helper()
	path := filepath.Join(cfg.Dir, "audit", "checkpoints")
	all := read(t, path)
	for range n {
		all = all[:max(0, bytes.LastIndex(all, []byte("aivault audit ")))]
	}
	write(t, path, all)
}

// A document whose confirmation a crash kept back opens, and the log is
// completed once.
func TestMissingConfirmationIsMade(t *testing.T) {
	t.Parallel()
	for _, cut := range []int{0, 1} { // whole lines, and a torn one
		v, cfg := fileVault(t)
		put(t, v, "a", "1")
		must(t, v.Close())
		path := filepath.Join(cfg.Dir, "audit", "00000001.jsonl")
		log := read(t, path)
		end := bytes.LastIndexByte(log[:len(log)-1], '\n') + 1
		write(t, path, log[:end+cut*20])
		unsign(t, cfg, 1)
		for range 2 {
			wantValue(t, open(t, cfg), "a", "1")
		}
		x := open(t, cfg)
		got := strings.Join(events(t, x), " ")
		if got != "vault.created vault.committed secret.created vault.committed" {
			t.Errorf("log = %s", got)
		}
		put(t, x, "b", "1")
		wantValue(t, open(t, cfg), "b", "1")
	}
}

// While another process holds the lock, a reader opens without completing
// the log; a writer completes it first.
func TestUnconfirmedDocumentOfARunningWriter(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "a", "1")
	must(t, v.Close())
	path := filepath.Join(cfg.Dir, "audit", "00000001.jsonl")
	log := read(t, path)
	write(t, path, log[:bytes.LastIndexByte(log[:len(log)-1], '\n')+1])
	unsign(t, cfg, 1)
	writer, reader := open(t, cfg), open(t, cfg)
	release, err := writer.writeLock(t.Context())
	must(t, err)
	wantValue(t, reader, "a", "1")
	if got := events(t, reader); got[len(got)-1] != "secret.created" {
		t.Errorf("the reader wrote: %v", got)
	}
	release()
	put(t, reader, "b", "1")
	if got := strings.Join(events(t, reader), " "); got != "vault.created vault.committed secret.created vault.committed secret.created vault.committed" {
		t.Errorf("log = %s", got)
	}
}

// A record in the log cannot pose as a confirmation, whatever a caller names.
func TestForgedConfirmationInAName(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "a", "1")
	log, err := v.Audit(t.Context())
	must(t, err)
	_, err = log.AppendSync(t.Context(), audit.Record{Event: audit.CallRefused, Capability: `","event":"vault.committed","generation":9,"hash":"`,
		Reason: `"event":"vault.committed"`})
	must(t, err)
	wantValue(t, open(t, cfg), "a", "1")
	if _, err := neverUsed(log); err != errUsed {
		t.Errorf("error = %v", err)
	}
}

func TestKeyFileTampering(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "a", "1")
	good := string(read(t, cfg.DefaultKeyFile))
	other, cfg2 := fileVault(t)
	put(t, other, "a", "1")
	for name, content := range map[string]string{
		"another vault's": string(read(t, cfg2.DefaultKeyFile)),
		"empty":           "",
		"unknown field":   strings.Replace(good, `"keys"`, `"more":1,"keys"`, 1),
		"wrong key":       good[:len(good)-9] + "AAAA" + good[len(good)-5:],
		"no keys":         good[:strings.Index(good, "[")+1] + "]}",
	} {
		t.Run(name, func(t *testing.T) {
			write(t, cfg.DefaultKeyFile, []byte(content))
			_, err := open(t, cfg).Snapshot(t.Context())
			wantCode(t, err, api.VaultUnavailable, cfg.Dir)
		})
	}
	must(t, os.Remove(cfg.DefaultKeyFile))
	_, err := open(t, cfg).Snapshot(t.Context())
	wantCode(t, err, api.VaultUnavailable, cfg.Dir, cfg.DefaultKeyFile, "missing")
	wantValue(t, v, "a", "1") // who has it open goes on
}

// Documents that the right key seals, and that are still not the last one: of
// a write that was abandoned, or of another history.
func TestSealedDocumentsThatDoNotFollow(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "1")
	s := mustSnapshot(t, v)
	path := filepath.Join(cfg.Dir, "vault.aiv")
	good := read(t, path)
	logPath := filepath.Join(cfg.Dir, "audit", "00000001.jsonl")
	log := read(t, logPath)
	for name, c := range map[string]struct {
		edit func(h *header)
		fits bool
	}{
		"the successor":          {func(*header) {}, true},
		"of the same generation": {func(h *header) { h.Generation-- }, false},
		"another predecessor":    {func(h *header) { h.Previous = strings.Repeat("1", 64) }, false},
		"one generation on":      {func(h *header) { h.Generation++ }, false},
	} {
		h := s.next()
		c.edit(&h)
		blob, err := v.sealDocument(h, s.state.clone(), s.keys)
		must(t, err)
		write(t, path, blob)
		x := New(cfg)
		_, err = x.Snapshot(t.Context())
		if code := api.CodeOf(err); c.fits != (err == nil) || err != nil && code != api.VaultUnavailable {
			t.Errorf("%s: error = %v", name, err)
		}
		must(t, x.Close())
		write(t, path, good)
		write(t, logPath, log)
	}
}

func TestAHeaderHasOneEncoding(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"white space":      strings.Replace(someHeader, `,"used"`, `, "used"`, 1),
		"at the end":       someHeader + " ",
		"escaped letter":   strings.Replace(someHeader, `"file"`, `"\u0066ile"`, 1),
		"default spelled":  strings.Replace(someHeader, `,"key"`, `,"dev":false,"key"`, 1),
		"empty path":       strings.Replace(someHeader, `"keyId":"k"`, `"keyId":"k","path":""`, 1),
		"other order":      strings.Replace(someHeader, `"generation":1,"previous":"`+noPrevious+`"`, `"previous":"`+noPrevious+`","generation":1`, 1),
		"number as 1e0":    strings.Replace(someHeader, `"generation":1`, `"generation":1e0`, 1),
		"null":             strings.Replace(someHeader, `"used":false`, `"used":null`, 1),
		"carriage return":  someHeader + "\r",
		"byte order mark":  "\ufeff" + someHeader,
		"not base64":       strings.Replace(someHeader, `"rootKey":"A`, `"rootKey":"=`, 1),
		"upper-case hash":  strings.Replace(someHeader, noPrevious, strings.Repeat("A", 64), 1),
		"upper-case id":    strings.Replace(someHeader, strings.Repeat("a", 26), strings.Repeat("A", 26), 1),
		"negative version": strings.Replace(someHeader, `"aivaultVault":1`, `"aivaultVault":-1`, 1),
	} {
		if line == someHeader {
			t.Errorf("%s: nothing was changed", name)
		}
		if _, err := parseHeader([]byte(line)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// An open vault whose log is gone refuses every call; its status says so.
func TestStatusSaysThatTheLogIsGone(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "a", "1")
	if st := v.Status(t.Context()); st.State != Unlocked {
		t.Fatalf("before: %+v", st)
	}
	path := filepath.Join(cfg.Dir, "audit", "00000001.jsonl")
	must(t, os.Rename(path, path+".away"))
	st := v.Status(t.Context())
	if st.State != Broken || st.Problem == nil || !strings.Contains(st.Problem.Error(), "was removed") {
		t.Errorf("without its log: %+v", st)
	}
	must(t, os.Rename(path+".away", path))
	if st := v.Status(t.Context()); st.State != Unlocked {
		t.Errorf("with the log back: %+v", st)
	}
}
