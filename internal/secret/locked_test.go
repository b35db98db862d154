package secret_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/secret"
)

// mapping is what /proc says about the mapping in which b lies: its flags, and
// how much of it is locked. ok is false where there is no /proc.
func mapping(t *testing.T, b []byte) (flags []string, ok bool) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return nil, false
	}
	at := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	inside := false
	for line := range strings.Lines(string(smaps)) {
		var from, to uint64
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			inside = from <= at && at+uint64(len(b)) <= to
		} else if rest, is := strings.CutPrefix(line, "VmFlags:"); is && inside {
			return strings.Fields(rest), true
		}
	}
	t.Fatal("the bytes are in no mapping")
	return nil, false
}

func hasAll(flags []string, want ...string) bool {
	all := " " + strings.Join(flags, " ") + " "
	for _, f := range want {
		if !strings.Contains(all, " "+f+" ") {
			return false
		}
	}
	return true
}

func TestLocked(t *testing.T) {
	for _, n := range []int{0, 1, 32, 4095, 4096, 4097, 64 << 10} {
		given := bytes.Repeat([]byte{0xa5}, n)
		v := secret.NewLocked(given)
		if !bytes.Equal(given, make([]byte, n)) {
			t.Errorf("%d bytes: those that were given are left", n)
		}
		b := v.Expose()
		if !bytes.Equal(b, bytes.Repeat([]byte{0xa5}, n)) || v.Len() != n || cap(b) != n {
			t.Fatalf("%d bytes: %d are held, with room for %d", n, v.Len(), cap(b))
		}
		if !v.Locked() {
			t.Fatalf("%d bytes are not locked", n)
		}
		if flags, ok := mapping(t, b); ok && n > 0 && !hasAll(flags, "lo", "dd", "wf") {
			t.Errorf("%d bytes: the kernel has them as %v", n, flags)
		}
		twin, clone := v, v.Clone()
		v.Wipe()
		v.Wipe()
		// What was handed out reads zeros; it is still memory.
		if !bytes.Equal(b, make([]byte, n)) || !bytes.Equal(twin.Expose(), make([]byte, n)) || twin.Locked() {
			t.Errorf("%d bytes: Wipe left them", n)
		}
		if flags, ok := mapping(t, b); ok && n > 0 && (hasAll(flags, "lo") || hasAll(flags, "dd") || hasAll(flags, "wf")) {
			t.Errorf("%d bytes: after Wipe the kernel has them as %v", n, flags)
		}
		if clone.Locked() || clone.Len() != n {
			t.Errorf("%d bytes: the clone", n)
		}
	}
	if plain := secret.FromString("x"); plain.Locked() || (secret.Value{}).Locked() {
		t.Error("an ordinary Value is locked")
	}
}

// A locked Value prints no more than any other.
func TestLockedPrintsNothing(t *testing.T) {
	v := secret.NewLocked([]byte(hidden))
	defer v.Wipe()
	for _, holder := range []any{v, &v, struct{ v secret.Value }{v}, &struct{ v *secret.Value }{&v}, []any{v}} {
		for c := rune('A'); c <= 'z'; c++ {
			if form := leaks(fmt.Sprintf("%"+string(c)+" %+"+string(c)+" %#"+string(c), holder, holder, holder)); form != "" {
				t.Errorf("%%%c of %T shows the secret, %s", c, holder, form)
			}
		}
	}
}

// Where no more may be locked, the Value works all the same and says so.
func TestNoRoomToLock(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		t.Log("root may lock what it likes: that is tested by the system tests")
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 0, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
			t.Error(err)
		}
	}()
	v := secret.NewLocked([]byte(hidden))
	if string(v.Expose()) != hidden {
		t.Error("the value is not there")
	}
	if os.Geteuid() != 0 && (v.Locked() || secret.CanLock()) {
		t.Error("it says to be locked")
	}
	v.Wipe()
	if v.Len() != len(hidden) || v.Expose()[0] != 0 {
		t.Error("Wipe left the bytes")
	}
}

// Values that nobody wipes give their pages back, wiped; those that somebody
// holds a slice of stay.
func TestLockedIsGivenBack(t *testing.T) {
	var held [][]byte
	for i := range 200 {
		v := secret.NewLocked(bytes.Repeat([]byte{byte(i)}, 32))
		if i%50 == 0 {
			held = append(held, v.Expose())
		}
	}
	for range 5 {
		runtime.GC()
		runtime.Gosched()
	}
	for i, b := range held {
		if !bytes.Equal(b, bytes.Repeat([]byte{byte(i * 50)}, 32)) {
			t.Errorf("a slice that is held reads %x", b)
		}
	}
	if !secret.CanLock() {
		t.Error("no more can be locked")
	}
	runtime.KeepAlive(held)
}

func BenchmarkNewLocked(b *testing.B) {
	for b.Loop() {
		v := secret.NewLocked([]byte("0123456789abcdef0123456789abcdef"))
		v.Wipe()
	}
}
