package quota

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// wantFullWindow checks that every key is full for a window from now on, for
// every Book, and that limits hold again afterwards.
func wantFullWindow(t *testing.T, b *Book, clock *testClock, path string) {
	t.Helper()
	wantWait(t, b.Check(t.Context(), per(9, "k"), nil), "k", Window)
	clock.pass(20 * time.Second)
	wantWait(t, b.Take(t.Context(), per(MaxPerMinute, "new"), nil), "new", 40*time.Second)
	wantWait(t, open(t, path, clock).Take(t.Context(), per(1, "k"), per(1, "k", "new")), "k", 40*time.Second)
	clock.pass(40*time.Second - 1)
	wantWait(t, b.Take(t.Context(), nil, per(1, "k")), "k", 1)
	clock.pass(1)
	must(t, b.Take(t.Context(), per(1, "k"), nil))
	wantWait(t, b.Take(t.Context(), per(1, "k"), nil), "k", Window)
	must(t, open(t, path, clock).Take(t.Context(), per(1, "new"), nil))
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
}

func TestLostCounts(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, path string, good []byte){
		"missing": func(t *testing.T, path string, _ []byte) { must(t, os.Remove(path)) },
		"missing, with its lock": func(t *testing.T, path string, _ []byte) {
			must(t, os.Remove(path))
			must(t, os.Remove(path+".lock"))
			must(t, os.Remove(path+".next"))
		},
		"empty":         func(t *testing.T, path string, _ []byte) { must(t, os.Truncate(path, 0)) },
		"cut short":     func(t *testing.T, path string, good []byte) { must(t, os.Truncate(path, int64(len(good)-1))) },
		"half":          func(t *testing.T, path string, good []byte) { must(t, os.Truncate(path, int64(len(good)/2))) },
		"zeros":         func(t *testing.T, path string, good []byte) { overwrite(t, path, make([]byte, len(good))) },
		"one byte more": func(t *testing.T, path string, good []byte) { overwrite(t, path, append(good, '\n')) },
		"a flipped bit": func(t *testing.T, path string, good []byte) {
			good[len(good)-10] ^= 1
			overwrite(t, path, good)
		},
		"garbage": func(t *testing.T, path string, _ []byte) { overwrite(t, path, []byte("5\n")) },
		"huge":    func(t *testing.T, path string, _ []byte) { must(t, os.Truncate(path, maxFile+1)) },
		"another's to read": func(t *testing.T, path string, good []byte) {
			must(t, os.Remove(path))
			must(t, os.WriteFile(path, good, 0o600))
			must(t, os.Chmod(path, 0o644))
		},
		"a link": func(t *testing.T, path string, good []byte) {
			must(t, os.Rename(path, path+"-away"))
			must(t, os.Symlink(path+"-away", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, clock, path := begun(t)
			must(t, b.Take(t.Context(), per(9, "k"), nil))
			lose(t, path, read(t, path))
			if _, err := os.Lstat(path); err == nil {
				must(t, b.Begin(t.Context())) // heals nothing
			}
			wantFullWindow(t, b, clock, path)
		})
	}
}

// overwrite changes a file in place.
func overwrite(t testing.TB, path string, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(data, 0)
	must(t, err)
	must(t, f.Truncate(int64(len(data))))
	must(t, f.Close())
}

// A full window goes on in another boot as starts do.
func TestAFullWindowAndAnotherBoot(t *testing.T) {
	t.Parallel()
	b, clock, path := begun(t)
	must(t, os.Remove(path))
	wantWait(t, b.Check(t.Context(), per(1, "k"), nil), "k", Window)
	clock.reboot("boot-2", 25*time.Second)
	wantWait(t, b.Check(t.Context(), per(1, "k"), nil), "k", 35*time.Second)
	clock.reboot("boot-3", -time.Hour)
	wantWait(t, open(t, path, clock).Take(t.Context(), per(1, "k"), nil), "k", 35*time.Second)
	clock.pass(35 * time.Second)
	must(t, b.Take(t.Context(), per(1, "k"), nil))
}

// Whoever begins does not undo what others counted.
func TestBeginLeavesWhatIsThere(t *testing.T) {
	t.Parallel()
	b, clock, path := begun(t)
	must(t, b.Take(t.Context(), per(1, "k"), nil))
	for _, other := range []*Book{b, open(t, path, clock)} {
		must(t, other.Begin(t.Context()))
		wantWait(t, other.Take(t.Context(), per(1, "k"), nil), "k", Window)
	}
}

// A writer that is killed leaves the old count or the new one, and what it
// leaves beside is used once, in the same boot.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	b, clock, path := begun(t)
	must(t, b.Take(t.Context(), per(2, "k"), nil))
	before := read(t, path)
	clock.pass(time.Second)
	must(t, b.Take(t.Context(), per(2, "k"), nil))
	after := read(t, path)
	if len(after) <= len(before) {
		t.Fatal("the second call made the file no longer")
	}
	struck := append([]byte{0}, after[1:]...)
	oldCount := func(t *testing.T, b *Book, again string) {
		must(t, b.Take(t.Context(), per(2, "k"), nil))
		wantWait(t, b.Take(t.Context(), per(2, "k"), nil), "k", 59*time.Second)
	}
	newCount := func(t *testing.T, b *Book, again string) {
		wantWait(t, b.Take(t.Context(), per(2, "k"), nil), "k", 59*time.Second)
		if !bytes.Equal(read(t, again), after) {
			t.Error("the file was not mended")
		}
		must(t, b.Take(t.Context(), per(2, "other"), nil))
		// A count that is lost later is lost.
		overwrite(t, again, []byte("x"))
		wantWait(t, b.Take(t.Context(), per(2, "k"), nil), "k", Window)
	}
	lost := func(t *testing.T, b *Book, again string) {
		wantWait(t, b.Take(t.Context(), per(2, "k"), nil), "k", Window)
	}
	try := func(main, next []byte, boot string, want func(*testing.T, *Book, string)) {
		t.Helper()
		again := filepath.Join(t.TempDir(), "limits")
		must(t, os.WriteFile(again, main, 0o600))
		must(t, os.WriteFile(again+".next", next, 0o600))
		clock := &testClock{now: clock.now}
		clock.now.BootID = boot
		want(t, open(t, again, clock), again)
	}
	boot := clock.now.BootID
	for i := 0; i < len(after); i += 5 {
		try(before, after[:i], boot, oldCount)
	}
	try(before, after, boot, oldCount)
	for i := 1; i < len(after); i += 5 {
		torn := append(bytes.Clone(after[:i]), before[min(i, len(before)):]...)
		if !bytes.Equal(torn, after) && !bytes.Equal(torn, before) {
			try(torn, after, boot, newCount)
			try(torn, struck, boot, lost)
			try(torn, after[:i], boot, lost)
			try(torn, after, "boot-2", lost)
		}
	}
	try(append(bytes.Clone(after), before[10:]...), after, boot, newCount) // not yet cut
	try(after, after, boot, newCount)
	try(after, struck, boot, newCount)
}

// What a killed writer left beside a count is no part of the one that takes
// its place.
func TestALostCountEndsWhatLayBesideIt(t *testing.T) {
	t.Parallel()
	b, clock, path := begun(t)
	must(t, b.Take(t.Context(), per(2, "k"), nil))
	whole := read(t, path)
	must(t, os.Remove(path))
	must(t, os.WriteFile(path+".next", whole, 0o600))
	temp := filepath.Join(filepath.Dir(path), ".limits.tmp-ABC")
	must(t, os.WriteFile(temp, nil, 0o600))
	wantWait(t, b.Take(t.Context(), per(2, "k"), nil), "k", Window)
	if _, err := os.Lstat(temp); err == nil {
		t.Error("a temporary file was left")
	}
	clock.pass(time.Second)
	overwrite(t, path, []byte("x"))
	wantWait(t, b.Take(t.Context(), per(2, "k"), nil), "k", Window)
}

// Where nothing can be written nothing is let through, and nothing is lost.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("this system has no /dev/full")
	}
	defer full.Close()
	b, clock, path := begun(t)
	must(t, b.Take(t.Context(), per(2, "k"), nil))
	one := read(t, path)
	now, err := instantOf(clock.now)
	must(t, err)
	// The disk is full from the first or from the second write on.
	for i, what := range []**os.File{&b.file.next, &b.file.main} {
		l, err := b.file.load(now)
		must(t, err)
		l.count(now, per(2, "k"), nil)
		kept := *what
		*what = full
		if err := b.file.saveOpen(l); err == nil {
			t.Error("no error")
		}
		*what = kept
		b.file.forget()
		if !bytes.Equal(read(t, path), one) {
			t.Error("something was written")
		}
		// The new count is whole beside the old before that is touched.
		if _, err := parse(read(t, path+".next")); (err == nil) != (i == 1) {
			t.Errorf("beside it: %v", err)
		}
	}
	must(t, open(t, path, clock).Take(t.Context(), per(2, "k"), nil))
	wantWait(t, b.Take(t.Context(), per(2, "k"), nil), "k", Window)
}

// A call that could not be counted is not counted in memory either.
func TestAnErrorCountsNothing(t *testing.T) {
	t.Parallel()
	b, _, path := begun(t)
	must(t, b.Take(t.Context(), per(2, "k"), nil))
	must(t, os.Remove(path+".next"))
	must(t, os.Mkdir(path+".next", 0o700))
	for range 3 {
		if err := b.Take(t.Context(), per(2, "k"), nil); err == nil || errors.As(err, new(*Exceeded)) {
			t.Errorf("error = %v", err)
		}
	}
	must(t, os.Remove(path+".next"))
	must(t, b.Take(t.Context(), per(2, "k"), nil))
	wantWait(t, b.Take(t.Context(), per(2, "k"), nil), "k", Window)
}

// More than a file holds is refused, not forgotten.
func TestTooManyToCount(t *testing.T) {
	t.Parallel()
	starts := make([]int64, MaxPerMinute)
	for i := range starts {
		starts[i] = int64(time.Hour) + int64(i)
	}
	l := &ledger{at: instant{"boot-1", int64(time.Hour + Window), 0}}
	for i := range 60 {
		l.counts = append(l.counts, count{key: string(rune('A' + i)), starts: starts})
	}
	if doc, err := l.encode(nil); err != errMany || doc != nil {
		t.Errorf("%d bytes, %v", len(doc), err)
	}
}
