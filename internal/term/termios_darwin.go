package term

import "golang.org/x/sys/unix"

const (
	getTermios = unix.TIOCGETA
	setTermios = unix.TIOCSETA
	maxLine    = 1023 // MAX_CANON less the newline
)
