package secret

import "golang.org/x/sys/unix"

// lockPages keeps whole pages in memory and out of core dumps and of children,
// or leaves them as they are.
func lockPages(b []byte) bool {
	if unix.Mlock(b) != nil {
		return false
	}
	if unix.Madvise(b, unix.MADV_DONTDUMP) != nil {
		unlockPages(b)
		return false
	}
	// A child that Go starts is another program at once; this is for those
	// that are forked by other means. Linux has it since 4.14.
	_ = unix.Madvise(b, unix.MADV_WIPEONFORK)
	return true
}

func unlockPages(b []byte) {
	_ = unix.Madvise(b, unix.MADV_KEEPONFORK)
	_ = unix.Madvise(b, unix.MADV_DODUMP)
	_ = unix.Munlock(b)
}
