package term

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/secret"
)

// ErrNoTerminal is returned where there is no terminal to ask on.
var ErrNoTerminal = errors.New("there is no terminal to ask on")

// ErrTooLong is returned for a line longer than a terminal passes on whole.
var ErrTooLong = errors.New("the line is longer than a terminal passes on whole")

// ReadPassword asks on the process's controlling terminal and reads one line
// without echoing it. See ReadPasswordFrom.
func ReadPassword(ctx context.Context, prompt string) (secret.Value, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return secret.Value{}, ErrNoTerminal
	}
	defer tty.Close()
	return ReadPasswordFrom(ctx, tty, prompt)
}

// ReadPasswordFrom asks on tty and reads one line without echoing it. The
// terminal is as it was before when it returns, also when ctx ends first
// (Ctrl-C, which the terminal still turns into a signal); the error is then
// ctx's. End of input before any line is io.EOF. The prompt is trusted text.
func ReadPasswordFrom(ctx context.Context, tty *os.File, prompt string) (secret.Value, error) {
	if err := ctx.Err(); err != nil {
		return secret.Value{}, err
	}
	restore, err := echoOff(tty)
	if err != nil {
		return secret.Value{}, err
	}
	defer restore()
	if _, err := io.WriteString(tty, prompt); err != nil {
		return secret.Value{}, fmt.Errorf("term: write prompt: %w", err)
	}
	// The newline that the person typed was not echoed either.
	defer io.WriteString(tty, "\n")

	type result struct {
		line secret.Value
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := readLine(tty)
		done <- result{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		// Where the terminal can be polled the reader ends now; elsewhere it
		// ends with the process, which is about to.
		if tty.SetReadDeadline(time.Unix(1, 0)) == nil {
			r := <-done
			r.line.Wipe()
		}
		return secret.Value{}, ctx.Err()
	}
}

// echoOff stops echoing and keeps line editing and signals as they are.
func echoOff(tty *os.File) (restore func(), err error) {
	raw, err := tty.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("term: %w", err)
	}
	var old unix.Termios
	var ioErr error
	if err := raw.Control(func(fd uintptr) {
		var t *unix.Termios
		if t, ioErr = unix.IoctlGetTermios(int(fd), getTermios); ioErr != nil {
			return
		}
		old = *t
		quiet := old
		quiet.Lflag &^= unix.ECHO
		quiet.Lflag |= unix.ICANON | unix.ISIG
		quiet.Iflag |= unix.ICRNL
		ioErr = unix.IoctlSetTermios(int(fd), setTermios, &quiet)
	}); err != nil {
		return nil, fmt.Errorf("term: %w", err)
	}
	if ioErr != nil {
		return nil, ErrNoTerminal
	}
	return func() {
		_ = raw.Control(func(fd uintptr) { _ = unix.IoctlSetTermios(int(fd), setTermios, &old) })
	}, nil
}

// readLine reads up to a newline. Its buffer never grows, so that no copy of
// what was typed is left behind.
func readLine(tty *os.File) (secret.Value, error) {
	buf := make([]byte, maxLine+1)
	n := 0
	for {
		k, err := tty.Read(buf[n:])
		n += k
		if n > 0 && buf[n-1] == '\n' {
			n--
			break
		}
		if err == nil && k > 0 && n < len(buf) {
			continue
		}
		if n >= len(buf) {
			break
		}
		if err == nil || errors.Is(err, io.EOF) {
			if n > 0 {
				break // ended with Ctrl-D
			}
			err = io.EOF
		}
		clear(buf)
		return secret.Value{}, err
	}
	if n >= maxLine {
		clear(buf)
		return secret.Value{}, ErrTooLong
	}
	return secret.New(buf[:n:n]), nil
}
