package term

import "golang.org/x/sys/unix"

const (
	getTermios = unix.TCGETS
	setTermios = unix.TCSETS
	maxLine    = 4095 // N_TTY_BUF_SIZE less the newline
)
