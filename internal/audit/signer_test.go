package audit

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// testKey is the n-th of the keys that tests sign with.
func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func publicKey(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func verifierKey(t testing.TB, cfg Config, key ed25519.PrivateKey) string {
	t.Helper()
	text, err := VerifierKey(cfg.VaultID, publicKey(key))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func sign(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Checkpoint(); err != nil {
		t.Fatal(err)
	}
}

func checkpointsOf(cfg Config) string { return filepath.Join(cfg.Dir, checkpointsName) }

// notes are the checkpoints in the file, each of which must be one for other
// people's tools, too.
func notes(t testing.TB, cfg Config, key ed25519.PrivateKey) (out []Checkpoint) {
	t.Helper()
	v, err := note.NewVerifier(verifierKey(t, cfg, key))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range blocks(read(t, checkpointsOf(cfg))) {
		n, err := note.Open([]byte(strings.TrimSuffix(text, "\n")), note.VerifierList(v))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		c, ok := parseText(n.Text)
		if !ok {
			t.Fatalf("no checkpoint: %q", n.Text)
		}
		out = append(out, c)
	}
	return out
}

// blocks takes a file of checkpoints apart.
func blocks(data []byte) (out []string) {
	lines := strings.SplitAfter(string(data), "\n")
	for i := 0; i+noteLines < len(lines)+1 && lines[i] != ""; i += noteLines {
		out = append(out, strings.Join(lines[i:i+noteLines], ""))
	}
	return out
}

func seqs(all []Checkpoint) (out []uint64) {
	for _, c := range all {
		out = append(out, c.Head.Seq)
	}
	return out
}

func committed(t testing.TB, l *Log, generation uint64) Head {
	t.Helper()
	h, err := l.AppendSync(t.Context(), Record{Event: VaultCommitted, Generation: generation, Hash: fmt.Sprintf("%064x", generation)})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCheckpoint(t *testing.T) {
	now := time.UnixMilli(1_767_225_600_123)
	cfg := config(t)
	cfg.Clock = func() time.Time { return now }
	l := create(t, cfg)
	sign(t, l) // without a key: nothing
	if _, err := os.Stat(checkpointsOf(cfg)); !errors.Is(err, fs.ErrNotExist) || l.Signed() != 0 {
		t.Errorf("signed without a key: %v, %d", err, l.Signed())
	}
	add(t, l, 1, 3)
	key := testKey(1)
	l.SetSigner(key)
	sign(t, l)
	committed(t, l, 7)
	five := add(t, l, 5, 5)
	sign(t, l)
	sign(t, l) // nothing new
	six := committed(t, l, 8)
	sign(t, l)
	got := notes(t, cfg, key)
	want := []Checkpoint{
		{VaultID: vaultID, AtMs: now.UnixMilli(), Head: got[0].Head},
		{VaultID: vaultID, AtMs: now.UnixMilli(), Head: five, Commit: Commit{7, fmt.Sprintf("%064x", 7)}},
		{VaultID: vaultID, AtMs: now.UnixMilli(), Head: six, Commit: Commit{8, fmt.Sprintf("%064x", 8)}},
	}
	if !slices.Equal(got, want) || got[0].Head.Seq != 3 {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if l.Signed() != 6 {
		t.Errorf("signed up to %d", l.Signed())
	}
	if text := string(read(t, filepath.Join(cfg.Dir, keyName))); text != verifierKey(t, cfg, key)+"\n" {
		t.Errorf("key.pub: %q", text)
	}
	for _, name := range []string{checkpointsName, keyName} {
		if info, err := os.Stat(filepath.Join(cfg.Dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	l.SetSigner(nil)
	add(t, l, 7, 7)
	sign(t, l)
	if l.Signed() != 6 {
		t.Errorf("signed with a key that was taken away: %d", l.Signed())
	}
}

// The document's example: a checkpoint of its two lines, fixed for ever.
func TestCheckpointVector(t *testing.T) {
	cfg := config(t)
	cfg.VaultID, cfg.Clock = "vault-1", func() time.Time { return time.UnixMilli(1767225601123) }
	page := string(read(t, "../../docs/audit-format.md"))
	example := func(heading, fence string) (block, rest string) {
		_, rest, _ = strings.Cut(page, heading)
		_, rest, _ = strings.Cut(rest, fence)
		block, rest, _ = strings.Cut(rest, "```")
		return block, rest
	}
	lines, _ := example("## Example", "```\n")
	want, rest := example("## A checkpoint", "```text\n")
	_, rest, _ = strings.Cut(rest, "```text\n")
	wantKey, _, _ := strings.Cut(rest, "```")
	create(t, cfg).Close()
	if err := os.WriteFile(current(cfg), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, cfg)
	l.SetSigner(testKey(0))
	sign(t, l)
	if got := string(read(t, checkpointsOf(cfg))); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := string(read(t, filepath.Join(cfg.Dir, keyName))); got != wantKey {
		t.Errorf("got %s\nwant %s", got, wantKey)
	}
	if r := verify(t, VerifyConfig{Dir: cfg.Dir, Key: strings.TrimSpace(wantKey)}); r.Problem != nil || r.SignedSeq != 2 {
		t.Errorf("%+v", r)
	}
}

func TestSignedEverySecondWithNews(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	l.signDelay = signDelay / 10
	l.SetSigner(testKey(1))
	waitFor := func(seq uint64) {
		t.Helper()
		for busy := true; busy || l.Signed() < seq; time.Sleep(5 * time.Millisecond) {
			l.mu.Lock()
			busy = l.signArmed || l.news // an idle log does not go on signing
			l.mu.Unlock()
		}
	}
	add(t, l, 1, 5)
	waitFor(5)
	// What was appended without a key is signed once there is one.
	l.SetSigner(nil)
	add(t, l, 6, 6)
	l.SetSigner(testKey(1))
	waitFor(6)
}

func TestSignedAtClose(t *testing.T) {
	cfg := config(t)
	l := create(t, cfg)
	l.SetSigner(testKey(1))
	add(t, l, 1, 4)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, cfg)
	if l.Signed() != 4 {
		t.Errorf("signed up to %d", l.Signed())
	}
	l.SetSigner(testKey(1))
	before := read(t, checkpointsOf(cfg))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, read(t, checkpointsOf(cfg))) {
		t.Error("signed without news")
	}
}

// One that closes while another writes without end leaves the signing to that
// one: its own work is done, and did not fail.
func TestWhoClosesDoesNotWaitForOthers(t *testing.T) {
	cfg := config(t)
	l, other := create(t, cfg), open(t, cfg)
	l.SetSigner(testKey(1))
	add(t, l, 1, 4)
	if err := other.lock.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.signFor = time.Millisecond
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := other.lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	other.SetSigner(testKey(1))
	if err := other.Checkpoint(); err != nil || other.Signed() != 4 {
		t.Errorf("signed up to %d, %v", other.Signed(), err)
	}
}

// Two processes and what was appended without a key: one order, one chain.
func TestSignersTakeTurns(t *testing.T) {
	cfg := config(t)
	a, b, c := create(t, cfg), open(t, cfg), open(t, cfg)
	key := testKey(1)
	a.SetSigner(key)
	b.SetSigner(key)
	var wg sync.WaitGroup
	for i, l := range []*Log{a, b, c} {
		wg.Go(func() {
			for n := range 50 {
				if n%10 == i {
					committed(t, l, uint64(100*i+n+1))
				}
				if _, err := l.Append(t.Context(), sample(n)); err != nil {
					t.Error(err)
				}
				if err := l.Checkpoint(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	sign(t, a)
	got := notes(t, cfg, key)
	at, commits, last := map[uint64]Head{}, map[uint64]Commit{}, Commit{}
	if _, err := a.Walk(Head{}, func(line []byte, h Head) error {
		if c, ok := commitOf(line); ok {
			last = c
		}
		at[h.Seq], commits[h.Seq] = h, last
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i, c := range got {
		if i > 0 && c.Head.Seq <= got[i-1].Head.Seq {
			t.Errorf("line %d is signed after line %d", c.Head.Seq, got[i-1].Head.Seq)
		}
		if c.Head != at[c.Head.Seq] || c.Commit != commits[c.Head.Seq] {
			t.Errorf("signed %+v, the log holds %+v, %+v", c, at[c.Head.Seq], commits[c.Head.Seq])
		}
	}
	if n := len(at); int(got[len(got)-1].Head.Seq) != n || n != 165 {
		t.Errorf("%d lines, signed %+v", n, got[len(got)-1])
	}
}

// A log that does not go on from what was signed is not signed over.
func TestNotSignedOver(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, cfg Config, lines []string){
		"the log ends before it": func(t *testing.T, cfg Config, lines []string) { rewrite(t, cfg, lines[:4]) },
		"does not follow": func(t *testing.T, cfg Config, lines []string) {
			lines[6] = strings.Replace(lines[6], "python3", "python4", 1)
			rewrite(t, cfg, lines)
		},
		"another line stands where this one was": func(t *testing.T, cfg Config, _ []string) {
			other := config(t)
			o := create(t, other)
			add(t, o, 10, 25)
			rewrite(t, cfg, strings.SplitAfter(string(read(t, current(other))), "\n"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			l := create(t, cfg)
			l.SetSigner(testKey(1))
			add(t, l, 1, 5)
			sign(t, l)
			l.SetSigner(nil)
			add(t, l, 6, 9)
			l.Close()
			before := read(t, checkpointsOf(cfg))
			spoil(t, cfg, strings.SplitAfter(string(read(t, current(cfg))), "\n"))
			l = open(t, cfg)
			l.SetSigner(testKey(1))
			var broken *ChainError
			if err := l.Checkpoint(); !errors.As(err, &broken) || !strings.Contains(err.Error(), name) {
				t.Errorf("%v", err)
			}
			if !bytes.Equal(before, read(t, checkpointsOf(cfg))) {
				t.Error("signed all the same")
			}
			l.SetSigner(nil)
		})
	}
}

func rewrite(t *testing.T, cfg Config, lines []string) {
	t.Helper()
	if err := os.WriteFile(current(cfg), []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What a power cut leaves of a checkpoint is cut off; what somebody else put
// there is no checkpoint of ours, and stays.
func TestUnfinishedCheckpoint(t *testing.T) {
	cfg := config(t)
	key := testKey(1)
	l := create(t, cfg)
	l.SetSigner(key)
	add(t, l, 1, 2)
	sign(t, l)
	add(t, l, 3, 4)
	sign(t, l)
	good := read(t, checkpointsOf(cfg))
	two := blocks(good)
	if len(two) != 2 {
		t.Fatalf("%q", good)
	}
	add(t, l, 5, 5)
	try := func(content string, want ...uint64) {
		t.Helper()
		if err := os.WriteFile(checkpointsOf(cfg), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		sign(t, l)
		if got := seqs(notes(t, cfg, key)); !slices.Equal(got, want) {
			t.Fatalf("after %q: %v, want %v", content, got, want)
		}
	}
	for n := range two[1] {
		try(two[0]+two[1][:n], 2, 5)
	}
	try(string(good), 2, 4, 5)
	try(string(good)+strings.Repeat("\x00", 300), 2, 4, 5)
	try(two[0]+strings.Repeat("\x00", len(two[1])), 2, 5)
	try(strings.Repeat("\x00", len(two[1])), 5)
	try("", 5)
	forged := func(key ed25519.PrivateKey) string {
		s, err := newNoteSigner(cfg.VaultID, key)
		if err != nil {
			t.Fatal(err)
		}
		n, err := s.sign(Checkpoint{VaultID: vaultID, Head: Head{Seq: 1000, Hash: strings.Repeat("ab", 32), File: segmentName(1), Offset: 100000}})
		if err != nil {
			t.Fatal(err)
		}
		return string(n)
	}
	alien := forged(testKey(2))
	for _, content := range []string{string(good) + alien, string(good) + strings.Replace(alien, "1000", "1001", 1), string(good) + strings.Repeat(alien, 20)} {
		if err := os.WriteFile(checkpointsOf(cfg), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		sign(t, l)
		after := string(read(t, checkpointsOf(cfg)))
		last, _ := newest([]byte(after), must(verifierOf(vaultID, publicKey(key)))(t), nil)
		if !strings.HasPrefix(after, content) || last == nil || last.Head.Seq != 5 || l.Signed() != 5 {
			t.Errorf("after a forged checkpoint: %+v, %d", last, l.Signed())
		}
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestSigningFails(t *testing.T) {
	key := testKey(1)
	full := errors.New("no space left on device")
	t.Run("another key beside the log", func(t *testing.T) {
		cfg := config(t)
		l := create(t, cfg)
		l.SetSigner(key)
		add(t, l, 1, 1)
		sign(t, l)
		l.SetSigner(testKey(2))
		add(t, l, 2, 2)
		if err := l.Checkpoint(); err == nil || !strings.Contains(err.Error(), keyName) {
			t.Errorf("%v", err)
		}
		l.SetSigner(nil)
	})
	t.Run("no Ed25519 key", func(t *testing.T) {
		l := create(t, config(t))
		l.SetSigner(otherSigner{})
		add(t, l, 1, 1)
		if err := l.Checkpoint(); err == nil {
			t.Error("signed")
		}
		l.SetSigner(nil)
	})
	t.Run("fsync", func(t *testing.T) {
		cfg := config(t)
		l := create(t, cfg)
		l.SetSigner(key)
		add(t, l, 1, 1)
		sign(t, l)
		add(t, l, 2, 2)
		l.fsync = func(f *os.File) error {
			if f.Name() == checkpointsOf(cfg) {
				return full
			}
			return f.Sync()
		}
		if err := l.Checkpoint(); !errors.Is(err, full) {
			t.Errorf("%v", err)
		}
		if got := seqs(notes(t, cfg, key)); !slices.Equal(got, []uint64{1}) {
			t.Errorf("what is not on disk is left: %v", got)
		}
		l.fsync = (*os.File).Sync
		add(t, l, 3, 3)
		sign(t, l)
		if got := seqs(notes(t, cfg, key)); !slices.Equal(got, []uint64{1, 3}) {
			t.Errorf("%v", got)
		}
	})
	t.Run("the log's fsync", func(t *testing.T) {
		cfg := config(t)
		l := create(t, cfg)
		l.SetSigner(key)
		add(t, l, 1, 1)
		l.fsync = func(f *os.File) error { return full }
		if err := l.Checkpoint(); !errors.Is(err, full) {
			t.Errorf("%v", err)
		}
		if _, err := os.Stat(checkpointsOf(cfg)); !errors.Is(err, fs.ErrNotExist) {
			t.Error("signed what is not on disk")
		}
		l.fsync = (*os.File).Sync
	})
	t.Run("a link", func(t *testing.T) {
		cfg := config(t)
		l := create(t, cfg)
		l.SetSigner(key)
		add(t, l, 1, 1)
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		if err := errors.Join(os.WriteFile(elsewhere, nil, 0o600), os.Symlink(elsewhere, checkpointsOf(cfg))); err != nil {
			t.Fatal(err)
		}
		if err := l.Checkpoint(); err == nil || len(read(t, elsewhere)) > 0 {
			t.Errorf("%v", err)
		}
		l.SetSigner(nil)
	})
}

type otherSigner struct{}

func (otherSigner) Public() crypto.PublicKey { return "none" }
func (otherSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("never")
}

func TestThinning(t *testing.T) {
	key := testKey(1)
	s, err := newNoteSigner(vaultID, key)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	seq := uint64(0)
	for file, n := range []int{3, 1, 150, 1, 250} {
		for i := range n {
			seq++
			b, err := s.sign(Checkpoint{VaultID: vaultID, Head: Head{Seq: seq, Hash: strings.Repeat("ab", 32), File: segmentName(file + 1), Offset: int64(i + 1)}})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
	}
	var got []uint64
	rest, _ := eachNote(thinned(all), func(n signedNote, _ int) bool { got = append(got, n.Head.Seq); return true })
	want := []uint64{3, 4, 154, 155}
	for i := range uint64(keptCheckpoints) {
		want = append(want, 405-keptCheckpoints+1+i)
	}
	if len(rest) > 0 || !slices.Equal(got, want) {
		t.Errorf("kept %v", got)
	}
	if spoiled := slices.Concat(all, []byte("not a note\n")); !bytes.Equal(thinned(spoiled), spoiled) {
		t.Error("evidence was removed")
	}

	// The file that grew past its bound is thinned by whoever signs next.
	cfg := config(t)
	l := create(t, cfg)
	l.SetSigner(key)
	add(t, l, 1, 2)
	sign(t, l)
	one := read(t, checkpointsOf(cfg))
	if err := os.WriteFile(checkpointsOf(cfg), bytes.Repeat(one, thinAt/len(one)+1), 0o600); err != nil {
		t.Fatal(err)
	}
	add(t, l, 3, 3)
	sign(t, l)
	if got := notes(t, cfg, key); len(got) != keptCheckpoints || got[len(got)-1].Head.Seq != 3 {
		t.Errorf("%d left", len(got))
	}
	add(t, l, 4, 4)
	sign(t, l)
	if got := notes(t, cfg, key); len(got) != keptCheckpoints+1 || got[len(got)-1].Head.Seq != 4 {
		t.Errorf("%d left", len(got))
	}
}

// Exactly what is written is read: nothing else is a checkpoint.
func TestCheckpointsAreStrict(t *testing.T) {
	s, err := newNoteSigner(vaultID, testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	c := Checkpoint{VaultID: vaultID, AtMs: 5, Head: Head{Seq: 12, Hash: strings.Repeat("ab", 32), File: segmentName(3), Offset: 77}, Commit: Commit{4, strings.Repeat("cd", 32)}}
	good, err := s.sign(c)
	if err != nil {
		t.Fatal(err)
	}
	if n, rest, ok := cutNote(good); !ok || len(rest) > 0 || n.Checkpoint != c {
		t.Fatalf("%+v, %v", n, ok)
	}
	for _, change := range [][2]string{
		{"aivault audit", "Aivault audit"}, {"audit 9f1c", "audit "}, {"audit 9f1c", "audit 9f 1c"}, {"audit 9f1c", "audit 9f1d"},
		{"\n12\n", "\n012\n"}, {"\n12\n", "\n+12\n"}, {"\n12\n", "\n0\n"}, {"\n12\n", "\n-1\n"}, {"\n12\n", "\n18446744073709551616\n"}, {"\n12\n", "\n12 \n"},
		{"q6ur", "q6u"}, {"q6ur", "q6ur\r"}, {"q6s=", "q6t="}, {"q6s=", "q6s"},
		{"00000003.jsonl", "00000000.jsonl"}, {"00000003.jsonl", "3.jsonl"}, {" 77\n", " 0\n"}, {" 77\n", "  77\n"}, {" 77\n", " 9223372036854775808\n"},
		{"\n5\n", "\n-5\n"}, {"\n5\n", "\n05\n"}, {"\n5\n", "\n\n"},
		{"vault 4", "vault 0"}, {"vault 4", "Vault 4"}, {"cdcd\n", "cdcD\n"}, {"cdcd\n", "cd\n"}, {strings.Repeat("cd", 32), "-"},
		{"\n\n\u2014", "\n\u2014"}, {"\u2014 ", "- "}, {"\u2014 aivault/", "\u2014 other/"}, {"\u2014 aivault/9f1c", "\u2014 aivault/9f1d"}, {"=\n\n", "\n\n"}, {"=\n\n", "=\n"}, {"=\n\n", "=\r\n\n"}, {"=\n\n", "= \n\n"},
	} {
		bad := strings.Replace(string(good), change[0], change[1], 1)
		if bad == string(good) {
			bad = strings.Replace(string(good), change[0], change[1], -1)
		}
		if bad == string(good) && change[0] != "q6s=" {
			t.Fatalf("%q is not there: %s", change[0], good)
		}
		if bad == string(good) {
			continue
		}
		if n, _, ok := cutNote([]byte(bad)); ok {
			t.Errorf("%q for %q is read: %+v", change[1], change[0], n.Checkpoint)
		}
	}
	for _, bad := range []Checkpoint{{}, {VaultID: "a b"}, {VaultID: vaultID, Head: Head{Seq: 1, Hash: "ab", File: segmentName(1), Offset: 1}},
		{VaultID: vaultID, Head: Head{Seq: 1, Hash: strings.Repeat("ab", 32), File: "../x", Offset: 1}}} {
		if _, err := s.sign(bad); err == nil {
			t.Errorf("signed %+v", bad)
		}
	}
}

// Whatever parses is written in the same way again, and note's own parser
// agrees that it is a signed note of this text.
func FuzzCheckpoints(f *testing.F) {
	s, err := newNoteSigner(vaultID, testKey(1))
	if err != nil {
		f.Fatal(err)
	}
	a, _ := s.sign(Checkpoint{VaultID: vaultID, Head: Head{Seq: 1, Hash: strings.Repeat("ab", 32), File: segmentName(1), Offset: 1}})
	b, _ := s.sign(Checkpoint{VaultID: vaultID, AtMs: 1 << 40, Head: Head{Seq: 1 << 63, Hash: strings.Repeat("01", 32), File: segmentName(99_999_999), Offset: 1 << 62}, Commit: Commit{9, strings.Repeat("cd", 32)}})
	f.Add(slices.Concat(a, b))
	f.Add(slices.Concat(a, b[:100]))
	f.Add([]byte("aivault audit x\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again []byte
		rest, line := eachNote(data, func(n signedNote, line int) bool {
			if bytes.Count(again, []byte("\n")) != line-1 {
				t.Fatalf("note at line %d", line)
			}
			one := n.encode()
			again = append(again, one...)
			text, err := n.Checkpoint.text()
			if err != nil || text != n.text {
				t.Fatalf("%q is written as %q, %v", n.text, text, err)
			}
			opened, err := note.Open(one[:len(one)-1], note.VerifierList(s.verifier))
			var unverified *note.UnverifiedNoteError
			var invalid *note.InvalidSignatureError
			switch {
			case err == nil && opened.Text == n.text && n.signedBy(s.verifier):
			case errors.As(err, &unverified) && unverified.Note.Text == n.text && !n.signedBy(s.verifier):
			case errors.As(err, &invalid) && !n.signedBy(s.verifier):
			default:
				t.Fatalf("%v for %q", err, one)
			}
			return true
		})
		if !bytes.Equal(append(again, rest...), data) || bytes.Count(again, []byte("\n")) != line-1 {
			t.Fatalf("%q became %q and %q", data, again, rest)
		}
		last, end := newest(data, nil, nil)
		if len(rest) == 0 && (end != len(data) || (last != nil) != (len(data) > 0)) {
			t.Fatalf("the last of %q: %v, %d", data, last, end)
		}
		thinned(data)
	})
}
