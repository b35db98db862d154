package secret

import "golang.org/x/sys/unix"

// lockPages keeps whole pages in memory; macOS has no word for the rest.
func lockPages(b []byte) bool { return unix.Mlock(b) == nil }

func unlockPages(b []byte) { _ = unix.Munlock(b) }
