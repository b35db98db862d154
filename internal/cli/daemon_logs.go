package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/daemon"
)

// maxLogRead bounds what is read of the log's end.
const maxLogRead = 4 << 20

func newDaemonLogs(o *Options) *cobra.Command {
	var lines int
	var follow bool
	cmd := &cobra.Command{
		Use: "logs", Args: noArgs,
		Short: "Show the end of your daemon's diagnostic log",
		Long:  "Shows the end of the diagnostic log, which says what the daemon did and never what went through\nit. What callers did is in the audit log: aivault audit.",
	}
	cmd.Flags().IntVar(&lines, "lines", 100, "how many lines, `N` at most")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing what is added")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		env, err := o.env()
		if err != nil {
			return err
		}
		if lines < 1 {
			return api.Errorf(api.InvalidRequest, "--lines must be 1 or more")
		}
		return o.showLog(cmd.Context(), daemon.LogPath(env), lines, follow)
	}
	return cmd
}

// logLines is what daemon logs prints with --json.
type logLines struct {
	Path  string   `json:"path"`
	Lines []string `json:"lines"`
}

func (o *Options) showLog(ctx context.Context, path string, lines int, follow bool) error {
	if follow && o.JSON {
		return api.Errorf(api.InvalidRequest, "--follow and --json exclude each other")
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if o.JSON {
			return o.printJSON(logLines{Path: path, Lines: []string{}})
		}
		o.say("No diagnostic log yet: %s", path)
		return nil
	}
	if err != nil {
		return api.Errorf(api.Internal, "read the log: %w", err)
	}
	defer f.Close()
	tail, err := lastLines(f, lines)
	if err != nil {
		return api.Errorf(api.Internal, "read the log: %w", err)
	}
	if o.JSON {
		info := logLines{Path: path, Lines: []string{}}
		for line := range bytes.Lines(tail) {
			info.Lines = append(info.Lines, string(bytes.TrimRight(line, "\n")))
		}
		return o.printJSON(info)
	}
	if err := o.print(tail); err != nil || !follow {
		return err
	}
	return o.followLog(ctx, f)
}

// lastLines reads the last n lines and leaves f at its end.
func lastLines(f *os.File, n int) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-maxLogRead)
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	end := bytes.TrimRight(data, "\n")
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] == '\n' {
			if n--; n == 0 {
				return data[i+1:], nil
			}
		}
	}
	return data, nil
}

// followLog prints what is added until ctx ends. It looks four times a second:
// a person reads along.
func (o *Options) followLog(ctx context.Context, f *os.File) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		data, err := io.ReadAll(f)
		if err != nil {
			return api.Errorf(api.Internal, "read the log: %w", err)
		}
		if len(data) > 0 {
			if err := o.print(data); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
