package cli

import (
	"bufio"
	"context"
	"io"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/term"
)

func newAuditExport(o *Options) *cobra.Command {
	var output string
	cmd := o.readingAudit(&cobra.Command{
		Use:   "export",
		Short: "Write records of the audit log, one JSON object a line",
		Long: "Writes every record that is kept, oldest first, as it stands in the log: one JSON object a line\n" +
			"(docs/audit-format.md). The flags of aivault audit pick some of them. It is checked on the way\n" +
			"that each line follows from the one before; what breaks off is an error. A file that --output\n" +
			"names is complete, or not there; only its owner can read it.",
		Example: "  aivault audit export -o audit.jsonl\n" +
			"  aivault audit export --since 24h --denied",
	}, auditReader{
		check: func(audit.Query) error {
			if output == "" {
				return nil
			}
			return checkOutput(output)
		},
		read: func(ctx context.Context, c *client.Client, q audit.Query) error {
			return o.exportAudit(ctx, c, q, output)
		},
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to this `PATH`")
	return cmd
}

func (o *Options) exportAudit(ctx context.Context, c *client.Client, q audit.Query, path string) error {
	write := func(w io.Writer) error {
		buffered := bufio.NewWriterSize(w, 64<<10)
		err := c.ExportAudit(ctx, q, func(line []byte) error {
			_, _ = buffered.Write(line) // Flush has its error, too
			return buffered.WriteByte('\n')
		})
		if flushed := buffered.Flush(); err == nil {
			err = flushed
		}
		return err
	}
	if path != "" {
		r, w := io.Pipe()
		go func() { w.CloseWithError(write(w)) }()
		defer r.Close()
		return writeOutput(path, r)
	}
	if !term.IsTerminal(o.Out) {
		return write(o.Out)
	}
	screen := term.NewWriter(o.Out)
	if err := write(screen); err != nil {
		return err
	}
	return screen.Flush()
}
