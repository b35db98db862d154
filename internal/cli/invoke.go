package cli

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/term"
)

func newInvoke(o *Options, name string, aliases ...string) *cobra.Command {
	cmd := &cobra.Command{
		Use: name + " CAPABILITY", Aliases: aliases,
		Short: "Call a capability and print the answer's body as it arrives",
		Long: "Makes one call. The capability chooses the host, and the daemon adds the key; method and path\n" +
			"may be left out where the capability has a default call. Files are opened by this process,\n" +
			"with your own rights. The answer's body goes to standard output as it arrives; a status of\n" +
			"400 or more is named on standard error.",
		Example: "  aivault invoke openai/chat-completions --body '{\"model\":\"gpt-5.2\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'\n" +
			"  aivault invoke github/repos-read --path /repos/cli/cli --fail\n" +
			"  aivault invoke openai/transcription --multipart-field model=whisper-1 --multipart-file file=talk.mp3",
		ValidArgsFunction: o.completeCapability,
	}
	f := newCallFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.JSON {
			return f.run(o, cmd, args, f.showJSON)
		}
		return f.run(o, cmd, args, f.showBody)
	}
	return cmd
}

// show prints an answer.
type show func(ctx context.Context, o *Options, a *client.Answer) error

// run makes the call and shows its answer.
func (f *callFlags) run(o *Options, cmd *cobra.Command, args []string, show show) error {
	ctx := cmd.Context()
	id, err := f.id.get(args)
	if err != nil {
		return err
	}
	if f.writesFile() {
		if err := checkOutput(f.output); err != nil {
			return err
		}
	}
	p, err := f.prepare(ctx, o, cmd, id)
	if err != nil {
		return err
	}
	err = o.withClient(ctx, func(c *client.Client) error { return f.call(ctx, o, c, p, show) })
	return errors.Join(err, p.close())
}

func (f *callFlags) call(ctx context.Context, o *Options, c *client.Client, p *prepared, show show) error {
	answer, err := c.Proxy(ctx, p.call, p.body)
	if err != nil {
		return err
	}
	err = show(ctx, o, answer)
	_ = answer.Body.Close() // what broke it off, Read has told
	if err != nil {
		return err
	}
	if answer.Status >= http.StatusBadRequest {
		o.say("upstream answered %s", statusText(answer.Status))
		if f.fail {
			return exitStatus(api.ExitUpstream4xx)
		}
	}
	return nil
}

func statusText(status int) string {
	return strings.TrimRight(strconv.Itoa(status)+" "+http.StatusText(status), " ")
}

// writesFile says whether --output names a file; "-" is standard output.
func (f *callFlags) writesFile() bool { return f.output != "" && f.output != "-" }

// showBody passes the body on as it arrives.
func (f *callFlags) showBody(_ context.Context, o *Options, a *client.Answer) error {
	if f.writesFile() {
		if f.fail && a.Status >= http.StatusBadRequest {
			return nil // a failure leaves nothing
		}
		return writeOutput(f.output, a.Body)
	}
	if !term.IsTerminal(o.Out) {
		return copyFlushed(o.Out, a.Body)
	}
	// What comes after, a notice or a shell's prompt, begins a line of its own.
	end := &lastByte{w: o.Out}
	screen := term.NewWriter(end)
	err := copyFlushed(screen, a.Body)
	if err == nil {
		err = screen.Flush()
	}
	if end.b != 0 && end.b != '\n' {
		_, werr := io.WriteString(o.Out, "\n")
		err = errors.Join(err, werr)
	}
	if errors.Is(err, term.ErrBinary) {
		return api.Errorf(api.InvalidRequest, "the answer is binary, which is not written to a terminal").
			WithHint("write it to a file with -o FILE, or pipe it")
	}
	return err
}

// lastByte remembers the last byte that was written.
type lastByte struct {
	w io.Writer
	b byte
}

func (l *lastByte) Write(p []byte) (int, error) {
	n, err := l.w.Write(p)
	if n > 0 {
		l.b = p[n-1]
	}
	return n, err
}

// copyFlushed writes each piece as soon as it was read. Standard output is
// not buffered, so that a piece is out when Write returns.
func copyFlushed(w io.Writer, r io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
