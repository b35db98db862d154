package term

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// openPTY returns both ends of a terminal.
func openPTY(t *testing.T) (person, tty *os.File) {
	t.Helper()
	person, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	// Opened again by name, as /dev/tty is: so that it can be polled.
	tty, err = os.OpenFile(slave.Name(), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close(); slave.Close(); person.Close() })
	return person, tty
}

func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	raw, err := tty.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	on := false
	if err := raw.Control(func(fd uintptr) {
		state, err := unix.IoctlGetTermios(int(fd), getTermios)
		on = err == nil && state.Lflag&unix.ECHO != 0
	}); err != nil {
		t.Fatal(err)
	}
	return on
}

func TestReadPassword(t *testing.T) {
	defer goleak.VerifyNone(t)
	person, tty := openPTY(t)
	if !IsTerminal(tty) {
		t.Fatal("a pty is not taken for a terminal")
	}
	type result struct {
		line string
		err  error
	}
	done := make(chan result)
	go func() {
		v, err := ReadPasswordFrom(t.Context(), tty, "Value: ")
		done <- result{string(v.Expose()), err}
	}()
	screen := bufio.NewReader(person)
	if got, err := screen.ReadString(' '); err != nil || got != "Value: " {
		t.Fatalf("prompt %q, %v", got, err)
	}
	if echoes(t, tty) {
		t.Error("the terminal echoes while it asks")
	}
	// Line editing still works: 0x7f takes one character back.
	if _, err := io.WriteString(person, "sk-testx\x7f\n"); err != nil {
		t.Fatal(err)
	}
	r := <-done
	if r.err != nil || r.line != "sk-test" {
		t.Fatalf("read %q, %v", r.line, r.err)
	}
	rest, err := screen.ReadString('\n')
	if err != nil || strings.TrimSpace(rest) != "" {
		t.Errorf("the terminal shows %q, %v", rest, err)
	}
	if !echoes(t, tty) {
		t.Error("echo was not restored")
	}
}

func TestReadPasswordCancelled(t *testing.T) {
	defer goleak.VerifyNone(t)
	person, tty := openPTY(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := ReadPasswordFrom(ctx, tty, "Value: ")
		done <- err
	}()
	if _, err := bufio.NewReader(person).ReadString(' '); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("still waiting for the person")
	}
	if !echoes(t, tty) {
		t.Error("echo was not restored")
	}
}

func TestReadPasswordEnds(t *testing.T) {
	for _, c := range []struct {
		name, typed, want string
		err               error
	}{
		{"end of input", "\x04", "", io.EOF},
		{"empty line", "\n", "", nil},
		{"ended without a newline", "abc\x04\x04", "abc", nil},
		{"too long", strings.Repeat("x", maxLine+100) + "\n", "", ErrTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			person, tty := openPTY(t)
			done := make(chan error)
			var got string
			go func() {
				v, err := ReadPasswordFrom(t.Context(), tty, "? ")
				got = string(v.Expose())
				done <- err
			}()
			if _, err := bufio.NewReader(person).ReadString(' '); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(person, c.typed); err != nil {
				t.Fatal(err)
			}
			if err := <-done; !errors.Is(err, c.err) || got != c.want {
				t.Errorf("got %q, %v; want %q, %v", got, err, c.want, c.err)
			}
		})
	}
}

func TestNoTerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if IsTerminal(f) || IsTerminal(io.Discard) || IsTerminal((*os.File)(nil)) {
		t.Error("taken for a terminal")
	}
	if _, err := ReadPasswordFrom(t.Context(), f, "? "); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("got %v", err)
	}
}

func TestStyle(t *testing.T) {
	_, tty := openPTY(t)
	for _, c := range []struct {
		out           any
		noColor, name string
		want          string
	}{
		{tty, "", "xterm", "\x1b[31mx\x1b[0m"},
		{tty, "1", "xterm", "x"},
		{tty, "", "dumb", "x"},
		{io.Discard, "", "xterm", "x"},
	} {
		if got := NewStyle(c.out, c.noColor, c.name).Red("x"); got != c.want {
			t.Errorf("NewStyle(%T, %q, %q): %q", c.out, c.noColor, c.name, got)
		}
	}
}
