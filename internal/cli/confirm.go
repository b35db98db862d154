package cli

import (
	"bufio"
	"context"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/term"
)

// confirm asks a question on the terminal whose usual answer is no.
// term.ErrNoTerminal where there is none to ask on. The question is trusted
// text.
func (o *Options) confirm(ctx context.Context, question string) (bool, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return false, term.ErrNoTerminal
	}
	defer tty.Close()
	if _, err := io.WriteString(tty, question+" [y/N]: "); err != nil {
		return false, term.ErrNoTerminal
	}
	line, err := await(ctx, func() (string, error) { return bufio.NewReader(io.LimitReader(tty, 16)).ReadString('\n') })
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil && line == "" {
		return false, nil // Ctrl-D
	}
	word := strings.ToLower(strings.TrimSpace(line))
	return word == "y" || word == "yes", nil
}
