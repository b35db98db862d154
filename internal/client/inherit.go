package client

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// inheritNothingOf marks every open descriptor that a directory lists.
func inheritNothingOf(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
