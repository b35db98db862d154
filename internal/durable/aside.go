package durable

import (
	"os"
	"regexp"
	"strconv"
)

const asideSuffix = ".aside"

var asideName = regexp.MustCompile(`^(.+)\.aside(-[0-9]+)?$`)

// FreeName is path, or what follows it where that is taken. What cannot be
// looked at counts as free: nobody who cannot look there moves anything there.
func FreeName(path string) string {
	free := path
	for n := 2; ; n++ {
		if _, err := os.Lstat(free); err != nil {
			return free
		}
		free = path + "-" + strconv.Itoa(n)
	}
}

// PutAside is the command for a shell that puts what has to make way under a
// name beside it. It is kept, whatever it is, and so is what was put aside
// before it: also by a command that is run again later.
func PutAside(path string) string {
	return "mv -n " + ShellQuote(path) + " " + ShellQuote(FreeName(path+asideSuffix))
}

// IsAside says of what the entry of a directory was put aside.
func IsAside(name string) (of string, ok bool) {
	m := asideName.FindStringSubmatch(name)
	if m == nil {
		return "", false
	}
	return m[1], true
}
