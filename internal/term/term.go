// Package term talks to the person at the terminal: it asks for what must not
// be echoed, and keeps what others wrote from steering the screen.
//
// Prompts go to the controlling terminal, never to standard output, and are
// read from it, never from standard input. Everything that came from data (a
// name, an upstream's answer) passes Line or a Writer before it is shown.
package term

import (
	"os"

	xterm "golang.org/x/term"
)

// IsTerminal says whether f, a stream that a command was given, is a terminal.
func IsTerminal(f any) bool {
	file, ok := f.(*os.File)
	if !ok || file == nil {
		return false
	}
	terminal := false
	// Fd would switch the file to blocking mode; Control does not.
	if raw, err := file.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { terminal = xterm.IsTerminal(int(fd)) })
	}
	return terminal
}

// Style colours words for people. The zero Style colours nothing.
type Style struct{ on bool }

// NewStyle colours when out is a terminal and the user did not set NO_COLOR
// (to anything but the empty string) and has a terminal that is not dumb.
func NewStyle(out any, noColor, termName string) Style {
	return Style{on: IsTerminal(out) && noColor == "" && termName != "dumb"}
}

// Bold marks a head. What is marked must not be untrusted text unless Line
// has seen it; so with the others.
func (s Style) Bold(text string) string { return s.sgr("1", text) }

// Dim marks what is beside the point.
func (s Style) Dim(text string) string { return s.sgr("2", text) }

// Red marks an error.
func (s Style) Red(text string) string { return s.sgr("31", text) }

// Green marks what went as it should.
func (s Style) Green(text string) string { return s.sgr("32", text) }

// Yellow marks what a person should know of.
func (s Style) Yellow(text string) string { return s.sgr("33", text) }

func (s Style) sgr(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
