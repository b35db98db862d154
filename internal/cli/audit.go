package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/term"
)

func newAudit(o *Options) *cobra.Command {
	var follow bool
	cmd := o.readingAudit(&cobra.Command{
		Use:   "audit",
		Short: "Show the newest records of the audit log",
		Long: "Shows the newest records of the audit log, oldest first: every call, allowed or refused, and\n" +
			"every change. No record holds a secret, a query value or a body. --since and --until take how\n" +
			"long ago (30m, 1h, 7d) or a time (2026-01-31T12:00:00Z); --before-ts-ms takes the atMs of a record\n" +
			"and shows those before it: the next page. With --follow the records that come are shown, too;\n" +
			"--json then prints each as a line.",
		Example: "  aivault audit --limit 200\n" +
			"  aivault audit --since 1h --denied\n" +
			"  aivault audit --capability 'openai/*' --caller root",
	}, auditReader{
		limit: 200,
		check: func(q audit.Query) error {
			if follow && (q.UntilMs != 0 || q.BeforeMs != 0) {
				return api.Errorf(api.InvalidRequest, "--follow has no end, so that --until and --before-ts-ms do not go with it")
			}
			return nil
		},
		read: func(ctx context.Context, c *client.Client, q audit.Query) error {
			if follow {
				return o.followAudit(ctx, c, q)
			}
			list, err := c.Audit(ctx, q)
			if err != nil {
				return err
			}
			if o.JSON {
				return o.printJSON(list)
			}
			return o.printTable(auditTable(list))
		},
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on showing what is added")
	cmd.AddCommand(newAuditVerify(o), newAuditExport(o))
	return cmd
}

// auditReader is what a command does with the records that its flags pick.
type auditReader struct {
	limit int                     // where none is given; 0: all that are kept
	check func(audit.Query) error // before the daemon is asked
	read  func(ctx context.Context, c *client.Client, q audit.Query) error
}

// readingAudit completes a command that reads records: the flags that pick
// them are the same for each.
func (o *Options) readingAudit(cmd *cobra.Command, r auditReader) *cobra.Command {
	var f auditFilter
	f.addTo(cmd.Flags(), r.limit)
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := f.query(o.Clock(), r.limit == 0)
		if err == nil {
			err = r.check(q)
		}
		if err != nil {
			return err
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error { return r.read(cmd.Context(), c, q) })
	}
	return cmd
}

// auditFilter are the flags that pick records.
type auditFilter struct {
	q            audit.Query
	since, until string
}

func (f *auditFilter) addTo(flags *pflag.FlagSet, limit int) {
	what := "how many records, `N` at most"
	if limit == 0 {
		what = "the newest `N` records alone"
	}
	flags.IntVar(&f.q.Limit, "limit", limit, what)
	flags.StringVar(&f.since, "since", "", "no older than this `TIME`, or how long ago")
	flags.StringVar(&f.until, "until", "", "no newer than this `TIME`, or how long ago")
	flags.Int64Var(&f.q.BeforeMs, "before-ts-ms", 0, "older than this time, in `MS` since 1970")
	flags.StringVar(&f.q.Capability, "capability", "", "of the capabilities or sets that this `PATTERN` matches")
	flags.StringVar(&f.q.Caller, "caller", "", "of this `USER` or uid")
	flags.BoolVar(&f.q.Denied, "denied", false, "only what was refused")
}

// query is what the flags say. all is that of a command which, without
// --limit, reads everything, and so has no bound of what one answer holds.
func (f *auditFilter) query(now time.Time, all bool) (q audit.Query, err error) {
	q = f.q
	switch {
	case all && q.Limit < 0:
		return q, api.Errorf(api.InvalidRequest, "--limit must be 1 or more")
	case !all && (q.Limit < 1 || q.Limit > api.MaxAuditRecords):
		return q, api.Errorf(api.InvalidRequest, "--limit can be 1 to %d", api.MaxAuditRecords)
	case q.BeforeMs < 0:
		return q, api.Errorf(api.InvalidRequest, "--before-ts-ms is a time in milliseconds since 1970")
	}
	if q.SinceMs, err = pointInTime("since", f.since, now); err != nil {
		return q, err
	}
	q.UntilMs, err = pointInTime("until", f.until, now)
	return q, err
}

// pointInTime reads a time, or how long ago it was; 0 where nothing was given.
func pointInTime(flag, text string, now time.Time) (int64, error) {
	if text == "" {
		return 0, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if ago, e := api.ParseDuration(text); e == nil && ago >= 0 {
		at, err = now.Add(-ago), nil
	}
	if err != nil || at.UnixMilli() < 1 {
		return 0, api.Errorf(api.InvalidRequest, "--%s takes how long ago, such as 30m, 1h or 7d, or a time such as 2026-01-31T12:00:00Z", flag)
	}
	return at.UnixMilli(), nil
}

// followAudit prints records as they come. There are no columns to fit: what
// is still to come is not known.
func (o *Options) followAudit(ctx context.Context, c *client.Client, q audit.Query) error {
	// Piped into head, it ends with it and not with the next record.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unread := make(chan bool, 1)
	go func() {
		gone := term.Unread(ctx, o.Out)
		unread <- gone
		cancel()
	}()
	err := c.FollowAudit(ctx, q, func(line []byte) error {
		if !o.JSON {
			return o.printTable(followedRow(line))
		}
		return o.print(append(slices.Clone(line), '\n'))
	})
	cancel()
	if <-unread {
		return exitStatus(exitUnread)
	}
	return err
}

// exitUnread is how a program ends that writes where nobody reads: 128 and
// SIGPIPE's number.
const exitUnread = 128 + 13
