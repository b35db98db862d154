package vault

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

// parts takes a backup apart.
func parts(t testing.TB, backup []byte) (line, document, log []byte) {
	t.Helper()
	line, rest, ok := bytes.Cut(backup, []byte("\n"))
	b, err := parseBackupHeader(line)
	if !ok || err != nil {
		t.Fatalf("no backup: %v", err)
	}
	return line, rest[:b.DocumentBytes], rest[b.DocumentBytes:]
}

func join(line, document, log []byte) []byte {
	return bytes.Join([][]byte{line, {'\n'}, document, log}, nil)
}

// wantRefused restores what must not be restored, and checks that nothing came
// of it.
func wantRefused(t testing.TB, cfg Config, what string, backup []byte) error {
	t.Helper()
	x := New(cfg)
	defer x.Close()
	_, err := x.Restore(t.Context(), operatorAsked, bytes.NewReader(backup), 0, keysource.Material{})
	if err == nil {
		t.Fatalf("%s was restored", what)
	}
	if code := api.CodeOf(err); code == api.Internal {
		t.Errorf("%s: %v", what, err)
	}
	for _, name := range []string{"vault.aiv", "audit", stagingName, restoringName} {
		if exists(x.path(name)) {
			t.Errorf("%s: %s is left", what, name)
		}
	}
	return err
}

// bigBackups are backups whose log takes several chunks.
func bigBackups(t testing.TB) (one, two []byte, cfg Config) {
	t.Helper()
	v, cfg := fileVault(t)
	put(t, v, "one", "1")
	log, err := v.Audit(t.Context())
	must(t, err)
	for range 250 {
		_, err := log.Append(t.Context(), audit.Record{Event: audit.CallAllowed, Reason: strings.Repeat("x", 900)})
		must(t, err)
	}
	one = backUp(t, v, "")
	put(t, v, "two", "2")
	return one, backUp(t, v, ""), cfg
}

func TestTamperedBackups(t *testing.T) {
	t.Parallel()
	one, two, cfg := bigBackups(t)
	other := elsewhere(t, cfg)
	restore(t, open(t, elsewhere(t, cfg)), one, 0, keysource.Material{}) // the twin
	l1, d1, g1 := parts(t, one)
	l2, d2, g2 := parts(t, two)
	if len(g1) < 3*(chunkSize+tagSize) {
		t.Fatalf("the log has %d bytes", len(g1))
	}
	step := 13
	if os.Getenv("AIVAULT_TEST_FULL") == "1" {
		step = 1
	}
	small := len(l1) + len(d1)
	for i := 0; i < len(one); i += step {
		if i > small {
			i += len(g1) / 60
		}
		if i < len(one) {
			flipped := bytes.Clone(one)
			flipped[i] ^= 1 << (i % 8)
			err := wantRefused(t, other, fmt.Sprintf("a flip in byte %d", i), flipped)
			if i > len(l1) && i < small && flipped[i] != '\n' && i > len(l1)+bytes.IndexByte(d1, '\n')+1 {
				wantCode(t, err, api.InvalidRequest, "the backup is damaged") // no key was asked for
			}
			wantRefused(t, other, fmt.Sprintf("a file of %d bytes", i), one[:i])
		}
	}
	for i := range l1 { // also the digits that nothing else is held against
		for _, c := range []byte("07") {
			if changed := bytes.Clone(one); changed[i] != c {
				changed[i] = c
				wantRefused(t, other, fmt.Sprintf("%c in byte %d", c, i), changed)
			}
		}
	}
	chunk := func(log []byte, n int) []byte {
		return log[n*(chunkSize+tagSize) : min(len(log), (n+1)*(chunkSize+tagSize))]
	}
	last := len(g1) / (chunkSize + tagSize)
	for what, b := range map[string][]byte{
		"the document of another backup":          join(l1, d2, g1),
		"the log of another backup":               join(l1, d1, g2),
		"the first line of another backup":        join(l2, d1, g1),
		"document and line of another":            join(l2, d2, g1),
		"line and log of another":                 join(l2, d1, g2),
		"chunks in another order":                 join(l1, d1, bytes.Join([][]byte{chunk(g1, 1), chunk(g1, 0), g1[2*(chunkSize+tagSize):]}, nil)),
		"a chunk twice":                           join(l1, d1, bytes.Join([][]byte{chunk(g1, 0), chunk(g1, 0), g1[(chunkSize + tagSize):]}, nil)),
		"without a chunk":                         join(l1, d1, g1[(chunkSize+tagSize):]),
		"cut at a chunk's end":                    join(l1, d1, g1[:2*(chunkSize+tagSize)]),
		"with the last chunk alone":               join(l1, d1, chunk(g1, last)),
		"without a log":                           join(l1, d1, nil),
		"a byte behind its end":                   append(bytes.Clone(one), 0),
		"itself once more behind its end":         append(bytes.Clone(one), one...),
		"a chunk of another backup in the middle": join(l1, d1, bytes.Join([][]byte{chunk(g1, 0), chunk(g2, 1), g1[2*(chunkSize+tagSize):]}, nil)),
	} {
		wantRefused(t, other, what, b)
	}
}

// sealedBackup is a backup of any parts, as whoever holds the vault's key could.
func sealedBackup(t testing.TB, v *Vault, edit func(*backupHeader), document, archive []byte) []byte {
	t.Helper()
	s := mustSnapshot(t, v)
	b := backupHeader{backupVersion, strings.Repeat("a", idSize), s.header.ID, s.header.Generation, 1, int64(len(document)), fileHash(document)}
	if edit != nil {
		edit(&b)
	}
	line, err := b.encode()
	must(t, err)
	key, err := s.keys.backupKey(b.ID)
	must(t, err)
	var log bytes.Buffer
	w, err := newChunkWriter(&log, key, line)
	must(t, err)
	_, err = w.Write(archive)
	must(t, err)
	must(t, w.Close())
	return join(line, document, log.Bytes())
}

// archiveOf is the copy of the log in a backup, opened.
func archiveOf(t testing.TB, k *keyring, backup []byte) []byte {
	t.Helper()
	line, _, log := parts(t, backup)
	b, err := parseBackupHeader(line)
	must(t, err)
	key, err := k.backupKey(b.ID)
	must(t, err)
	r, err := newChunkReader(bytes.NewReader(log), key, line)
	must(t, err)
	plain, err := io.ReadAll(r)
	must(t, err)
	return plain
}

// Backups that were sealed by the right key, and hold what no backup holds.
func TestHostileBackups(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "1")
	good := backUp(t, v, "")
	document := read(t, v.path("vault.aiv"))
	archive := archiveOf(t, mustSnapshot(t, v).keys, good)
	other := elsewhere(t, cfg)
	restore(t, open(t, elsewhere(t, cfg)), sealedBackup(t, v, nil, document, archive), 0, keysource.Material{}) // the twin
	replace := func(old, new string) []byte {
		out := bytes.Replace(archive, []byte(old), []byte(new), 1)
		if bytes.Equal(out, archive) {
			t.Fatalf("%q is not in the archive", old)
		}
		return out
	}
	lines := bytes.SplitAfter(archive, []byte("\n"))
	first := 0
	for !bytes.HasPrefix(lines[first], []byte("segment ")) {
		first++
	}
	without := func(n int) []byte {
		return bytes.Join(append(append([][]byte(nil), lines[:n]...), lines[n+1:]...), nil)
	}
	for what, b := range map[string][]byte{
		"a path for a segment":       replace("segment 1\n", "segment ../../evil\n"),
		"an absurd segment":          replace("segment 1\n", "segment 99999999999999999999\n"),
		"segment zero":               replace("segment 1\n", "segment 0\n"),
		"a segment that starts late": replace("segment 1\n", "segment 2\n"),
		"a number in another form":   replace("segment 1\n", "segment 01\n"),
		"a segment twice":            replace("segment 1\n", "segment 1\nsegment 1\n"),
		"an unknown word":            replace("segment 1\n", "file vault.aiv 3\nsegment 1\n"),
		"an absurd length":           replace("key ", "key 9999999999999\nkey "),
		"a negative length":          replace("key ", "key -1\nkey "),
		"no segment":                 without(first),
		"without a line":             without(first + 2),
		"without the end":            without(len(lines) - 2),
		"another end":                replace("end ", "end 1 "),
		"more behind the end":        append(bytes.Clone(archive), "segment 2\n"...),
		"a line that is too long":    replace("segment 1\n", "segment 1\n{"+strings.Repeat("x", audit.MaxLine)+"\n"),
		"the log of another vault":   replace(`{"seq":1,"prev":"`, `{"seq":1,"prev":"00`),
		"nothing":                    nil,
	} {
		wantRefused(t, other, what, sealedBackup(t, v, nil, document, b))
	}
	for what, edit := range map[string]func(*backupHeader){
		"another generation": func(b *backupHeader) { b.Generation++ },
		"an earlier one":     func(b *backupHeader) { b.Generation-- },
		"another vault":      func(b *backupHeader) { b.Vault = strings.Repeat("b", idSize) },
		"a newer format":     func(b *backupHeader) { b.Format++ },
		"an absurd size":     func(b *backupHeader) { b.DocumentBytes = maxFile + 1 },
		"no size":            func(b *backupHeader) { b.DocumentBytes = 0 },
		"a negative size":    func(b *backupHeader) { b.DocumentBytes = -1 },
		"a path for an id":   func(b *backupHeader) { b.ID = "../../../../../../../../et" },
		"a time before 1970": func(b *backupHeader) { b.MadeAtMs = -1 },
	} {
		wantRefused(t, other, what, sealedBackup(t, v, edit, document, archive))
	}
	// A document that claims more memory than there is, or is not one.
	for what, p := range map[string]keysource.Argon2Params{
		"absurd memory":      {MemoryKiB: 1 << 31, Time: 1, Parallelism: 1},
		"an absurd time":     {MemoryKiB: 8 << 10, Time: 1 << 31, Parallelism: 1},
		"absurd parallelism": {MemoryKiB: 8 << 10, Time: 1, Parallelism: 255},
	} {
		p.Salt = "AAAAAAAAAAAAAAAAAAAAAA"
		h := mustSnapshot(t, v).header
		h.Key = keysource.Params{Provider: keysource.Passphrase, KeyID: "k", Argon2id: &p}
		line, err := h.encode()
		must(t, err)
		absurd := append(append(line, '\n'), document[bytes.IndexByte(document, '\n')+1:]...)
		err = wantRefused(t, other, what, sealedBackup(t, v, nil, absurd, archive))
		wantCode(t, err, api.VaultUnavailable, "out of bounds")
	}
	err := wantRefused(t, other, "a line without an end", bytes.Repeat([]byte("x"), 1<<20))
	wantCode(t, err, api.InvalidRequest, "no backup")
	wantRefused(t, other, "nothing at all", nil)
	dev := other
	dev.Dev = true
	wantCode(t, wantRefused(t, dev, "a release's vault", good), api.VaultUnavailable, "release build")
	devCfg := testConfig(t)
	devCfg.Dev = true
	d := open(t, devCfg)
	must(t, d.Init(t.Context(), who, passRequest("p")))
	wantCode(t, wantRefused(t, other, "a development build's vault", backUp(t, d, "")), api.VaultUnavailable, "a development build made")
}

// The chunks alone: whoever reads them gets what was written, from the first
// byte on, or an error.
func TestChunks(t *testing.T) {
	t.Parallel()
	key, line := secret.FromString(strings.Repeat("k", 32)), []byte("line")
	const whole = chunkSize + tagSize
	for _, n := range []int{1, chunkSize - 1, chunkSize, chunkSize + 1, 3 * chunkSize, 3*chunkSize + 5} {
		plain := bytes.Repeat([]byte{'a', 'b', 'c'}, n)[:n]
		var out bytes.Buffer
		w, err := newChunkWriter(&out, key, line)
		must(t, err)
		for p := plain; len(p) > 0; p = p[min(len(p), 1000):] {
			_, err := w.Write(p[:min(len(p), 1000)])
			must(t, err)
		}
		must(t, w.Close())
		sealed := out.Bytes()
		open := func(line, sealed []byte) ([]byte, error) {
			r, err := newChunkReader(bytes.NewReader(sealed), key, line)
			must(t, err)
			return io.ReadAll(r)
		}
		if got, err := open(line, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: %d came back, %v", n, len(got), err)
		}
		bad := map[string][]byte{"cut": sealed[:len(sealed)-1], "empty": nil, "longer": append(bytes.Clone(sealed), 0)}
		if n > chunkSize {
			bad["cut at a chunk's end"] = sealed[:whole]
			bad["without the first"] = sealed[whole:]
			bad["the first twice"] = append(bytes.Clone(sealed[:whole]), sealed...)
		}
		if n == 3*chunkSize {
			bad["in another order"] = bytes.Join([][]byte{sealed[whole : 2*whole], sealed[:whole], sealed[2*whole:]}, nil)
		}
		for what, b := range bad {
			if got, err := open(line, b); !errors.Is(err, errSealedLog) || !bytes.HasPrefix(plain, got) {
				t.Errorf("%d bytes, %s: %d came back, %v", n, what, len(got), err)
			}
		}
		if got, err := open([]byte("other"), sealed); !errors.Is(err, errSealedLog) || len(got) > 0 {
			t.Errorf("under another line %d came back, %v", len(got), err)
		}
	}
}

// broken is a reader that fails as a connection does.
type broken struct{ io.Reader }

var errConnection = errors.New("the connection broke")

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errConnection
	}
	return n, err
}

// A sender who goes away is told from a file that is damaged, and nothing is
// left.
func TestRestoreWhoseSenderGoes(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "1")
	good := backUp(t, v, "")
	for _, n := range []int{10, 700, len(good) - 10, len(good)} {
		x := open(t, elsewhere(t, cfg))
		_, err := x.Restore(t.Context(), operatorAsked, broken{bytes.NewReader(good[:n])}, 0, keysource.Material{})
		if !errors.Is(err, errConnection) || exists(x.path("vault.aiv")) || exists(x.logDir()) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// What is read is written again byte for byte; what a backup holds is the
// vault's own words, or it is refused.
func FuzzBackup(f *testing.F) {
	root := f.TempDir()
	cfg := victimConfig(root)
	v := New(cfg)
	must(f, v.Init(f.Context(), who, keysource.Request{Provider: keysource.File}))
	put(f, v, "one", "1")
	good := backUp(f, v, "")
	document := read(f, v.path("vault.aiv"))
	archive := archiveOf(f, mustSnapshot(f, v).keys, good)
	f.Cleanup(func() { must(f, v.Close()) })
	f.Add(good, archive)
	f.Add(good[:200], []byte("key 0\ncheckpoints 0\nsegment 1\nend 1 x\n"))
	f.Add([]byte(`{"aivaultBackup":1,"id":"aaaaaaaaaaaaaaaaaaaaaaaaaa","vault":"aaaaaaaaaaaaaaaaaaaaaaaaaa","generation":1,"madeAtMs":0,"documentBytes":1,"documentHash":""}`+"\n"), []byte("key 3\nabc"))
	other := victimConfig(filepath.Join(root, "other"))
	other.DefaultKeyFile = cfg.DefaultKeyFile
	f.Fuzz(func(t *testing.T, file, log []byte) {
		_, _ = PeekBackup(bufio.NewReaderSize(bytes.NewReader(file), PeekSize))
		line, _, _ := bytes.Cut(file, []byte("\n"))
		if b, err := parseBackupHeader(line); err == nil {
			if again, err := b.encode(); err != nil || !bytes.Equal(again, line) {
				t.Fatalf("%q was read, %q is written: %v", line, again, err)
			}
		}
		if !bytes.Equal(file, good) {
			wantRefused(t, other, "a changed file", file)
		}
		// The checkpoints and the key are proven by who verifies the log.
		if bytes.HasPrefix(log, archive[:bytes.Index(archive, []byte("segment "))]) && !bytes.Equal(log, archive) {
			wantRefused(t, other, "another log", sealedBackup(t, v, nil, document, log))
		}
	})
}

var updateBackups = flag.Bool("update-backups", false, "write vectors/backup-v1.json anew")

const backupVectorFile = "../../vectors/backup-v1.json"

type backupVectors struct {
	Format  string          `json:"format"`
	Backups []backupExample `json:"backups"`
	Refused []backupRefusal `json:"refused"`
}

type backupExample struct {
	Name       string            `json:"name"`
	Passphrase string            `json:"passphrase,omitzero"`
	KeyFile    []byte            `json:"keyFileBase64,omitzero"`
	LogKey     string            `json:"logKeyHex"`
	Log        string            `json:"log"` // the copy of the log, opened
	Values     map[string]string `json:"values"`
	Backup     []byte            `json:"backupBase64"`
}

type backupRefusal struct {
	Name    string `json:"name"`
	KeyFile []byte `json:"keyFileBase64,omitzero"`
	Backup  []byte `json:"backupBase64"`
}

// makeBackupVectors makes other ones each time: the log's checkpoints are
// signed when there is time for it.
func makeBackupVectors(t testing.TB) []byte {
	v, cfg := full(t)
	key := read(t, cfg.DefaultKeyFile)
	all := backupVectors{Format: "aivault backup, version 1: docs/backup-format.md"}
	_, values := contents(t, v)
	for _, phrase := range []string{"", "correct horse battery staple"} {
		backup := backUp(t, v, phrase)
		e := backupExample{Name: "key file", KeyFile: key, Values: values, Backup: backup}
		if phrase != "" {
			e.Name, e.KeyFile, e.Passphrase = "stands alone", nil, phrase
		}
		k := keysOfBackup(t, cfg, backup, phrase)
		line, _, _ := parts(t, backup)
		b, err := parseBackupHeader(line)
		must(t, err)
		logKey, err := k.backupKey(b.ID)
		must(t, err)
		e.LogKey, e.Log = hex.EncodeToString(logKey.Expose()), string(archiveOf(t, k, backup))
		all.Backups = append(all.Backups, e)
	}
	good := all.Backups[0].Backup
	line, document, _ := parts(t, good)
	_, document2, log2 := parts(t, backUp(t, v, ""))
	for name, b := range map[string][]byte{
		"cut off": good[:len(good)-1], "with the log of another backup": join(line, document, log2),
		"longer": append(bytes.Clone(good), 0), "without its log": join(line, document2, nil),
		"a newer format": bytes.Replace(good, []byte(`"aivaultBackup":1`), []byte(`"aivaultBackup":2`), 1),
	} {
		all.Refused = append(all.Refused, backupRefusal{name, key, b})
	}
	out, err := json.MarshalIndent(all, "", "  ")
	must(t, err)
	return append(out, '\n')
}

func keysOfBackup(t testing.TB, cfg Config, backup []byte, phrase string) *keyring {
	t.Helper()
	in, err := open(t, cfg).readBackup(t.Context(), bytes.NewReader(backup), pass(phrase))
	must(t, err)
	return in.keys
}

// Every backup that was ever made goes on opening.
func TestBackupVectors(t *testing.T) {
	t.Parallel()
	if *updateBackups {
		must(t, os.WriteFile(backupVectorFile, makeBackupVectors(t), 0o644))
	}
	var all backupVectors
	must(t, strictjson.Unmarshal(read(t, backupVectorFile), &all))
	machine := func(key []byte) Config {
		cfg := testConfig(t)
		if key != nil {
			must(t, durable.MkdirAll(filepath.Dir(cfg.DefaultKeyFile)))
			must(t, durable.WriteFile(cfg.DefaultKeyFile, key))
		}
		return cfg
	}
	for _, e := range all.Backups {
		cfg := machine(e.KeyFile)
		k := keysOfBackup(t, cfg, e.Backup, e.Passphrase)
		line, _, log := parts(t, e.Backup)
		if got := string(archiveOf(t, k, e.Backup)); got != e.Log {
			t.Errorf("%s: the log is\n%s", e.Name, got)
		}
		raw, err := hex.DecodeString(e.LogKey)
		must(t, err)
		r, err := newChunkReader(bytes.NewReader(log), secret.New(raw), line)
		must(t, err)
		if got, err := io.ReadAll(r); err != nil || string(got) != e.Log {
			t.Errorf("%s: by the key that it names the log is %q, %v", e.Name, got, err)
		}
		x := open(t, cfg)
		restore(t, x, e.Backup, 0, pass(e.Passphrase))
		if _, values := contents(t, x); len(values) == 0 || fmt.Sprint(values) != fmt.Sprint(e.Values) {
			t.Errorf("%s: values %v", e.Name, values)
		}
		must(t, x.verifyLog(x.seen.header.ID))
	}
	for _, r := range all.Refused {
		wantRefused(t, machine(r.KeyFile), r.Name, r.Backup)
	}
}
