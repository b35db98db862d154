package secret

import (
	"os"
	"runtime"
	"sync"
	"unsafe"
)

// NewLocked moves b into memory that is never swapped out nor, where the
// system knows how, part of a core dump or copied to a child; b is wiped. It
// is for keys that live for long. Where the system does not let this process
// lock more, the Value is one like any other: see Locked.
//
// The memory is Go's own, so that no slice of it can outlive what it points
// to, in pages that hold nothing else. Wipe makes them pages like any other
// again.
func NewLocked(b []byte) Value {
	bytes, pages := newPages(len(b))
	copy(bytes, b)
	clear(b)
	runtime.KeepAlive(b)
	open := func() []byte { return bytes }
	return Value{&open, &pages}
}

// Locked says whether the bytes are in locked memory.
func (v Value) Locked() bool { return v.pages != nil && (*v.pages)(isLocked) }

// CanLock says whether NewLocked could lock a key now.
func CanLock() bool {
	v := NewLocked([]byte{1})
	defer v.Wipe()
	return v.Locked()
}

// What can be asked of pages: like the bytes, they hide in a function.
const (
	isLocked = iota
	unlock
)

// newPages returns room for n bytes in pages of its own, locked if that can
// be.
func newPages(n int) (bytes []byte, pages func(what int) bool) {
	size := os.Getpagesize()
	whole := max(1, (n+size-1)/size) * size
	// Room for one page more holds these pages whole, wherever it begins.
	room := make([]byte, whole+size)
	start := unsafe.SliceData(room)
	skip := -int(uintptr(unsafe.Pointer(start))) & (size - 1)
	inside := func(start *byte) []byte { return unsafe.Slice(start, whole+size)[skip : skip+whole] }

	mine := inside(start)
	locked := lockPages(mine)
	if locked {
		// Of a Value that nobody wiped. A cleanup would come when the memory
		// may be another's already; a finalizer comes before that.
		runtime.SetFinalizer(start, func(start *byte) {
			clear(inside(start))
			unlockPages(inside(start))
		})
	}
	var mu sync.Mutex
	return mine[:n:n], func(what int) bool {
		mu.Lock()
		defer mu.Unlock()
		if what == unlock && locked {
			runtime.SetFinalizer(unsafe.SliceData(room), nil)
			unlockPages(mine)
			locked = false
		}
		return locked
	}
}
