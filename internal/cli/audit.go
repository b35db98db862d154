package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/client"
)

func newAudit(o *Options) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show the newest records of the audit log",
		Long: "Shows the newest records of the audit log, oldest first: every call, allowed or refused, and\n" +
			"every change. No record holds a secret, a query value or a body.",
		Example: "  aivault audit --limit 200",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > api.MaxAuditRecords {
				return api.Errorf(api.InvalidRequest, "--limit can be 1 to %d", api.MaxAuditRecords)
			}
			return o.withClient(cmd.Context(), func(c *client.Client) error {
				list, err := c.Audit(cmd.Context(), limit)
				if err != nil {
					return err
				}
				if o.JSON {
					return o.printJSON(list)
				}
				return o.printTable(auditTable(list))
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 200, "how many records, `N` at most")
	return cmd
}

// auditLine is a record with what the log puts in front of it.
type auditLine struct {
	Seq  uint64 `json:"seq"`
	AtMs int64  `json:"atMs"`
	audit.Record
}

func auditTable(list api.AuditList) *table {
	t := newTable("TIME", "SEQ", "EVENT", "WHO", "WHAT", "RESULT")
	for _, raw := range list.Records {
		var r auditLine
		// A newer daemon may write fields that this CLI does not know.
		if err := json.Unmarshal(raw, &r); err != nil {
			t.row("-", "-", "unreadable", "-", "-", "see --json")
			continue
		}
		t.row(rfc3339(r.AtMs), strconv.FormatUint(r.Seq, 10), r.Event, auditWho(r.Caller), auditWhat(r.Record), orDash(auditResult(r.Record)))
	}
	return t
}

func auditWho(c *audit.Caller) string {
	switch {
	case c == nil:
		return "-"
	case c.User != "":
		return c.User
	}
	return fmt.Sprintf("uid %d", c.UID)
}

// auditWhat names what a record is about.
func auditWhat(r audit.Record) string {
	var parts []string
	add := func(format, text string) {
		if text != "" {
			parts = append(parts, fmt.Sprintf(format, text))
		}
	}
	switch kind, _, _ := strings.Cut(r.Event, "."); kind {
	case "binding":
		add("%s", r.Capability)
		add("to %s", r.Credential)
		add("for %s", r.Name)
	case "grant":
		add("%s", cmp.Or(r.Name, r.Object))
		add("to call %s", r.Capability)
	case "call":
		add("%s", r.Capability)
		add("%s", r.Method)
		add("%s", strings.TrimSpace(r.Host+" "+r.Path))
		add("as %s", r.Set)
	case "secrets":
		add("%s", plural(len(r.Secrets), "secret", "secrets"))
	default:
		add("%s", cmp.Or(r.Name, r.Capability, r.Object))
		add("(%s)", r.Provider)
	}
	if r.Scope != scopeGlobal {
		add("in %s", r.Scope)
	}
	return orDash(strings.Join(parts, " "))
}

// auditResult is how it went.
func auditResult(r audit.Record) string {
	var parts []string
	if r.Status != 0 {
		parts = append(parts, strconv.Itoa(r.Status))
	}
	if r.Event == audit.CallFinished && r.Status != 0 {
		parts = append(parts, plural(int(r.Bytes), "byte", "bytes"), fmt.Sprintf("%d ms", r.DurationMs))
	}
	if r.Redactions > 0 {
		parts = append(parts, plural(r.Redactions, "redaction", "redactions"))
	}
	if r.Code != "" {
		parts = append(parts, r.Code)
	}
	if r.Reason != "" {
		parts = append(parts, r.Reason)
	}
	if r.Generation != 0 {
		parts = append(parts, fmt.Sprintf("generation %d", r.Generation))
	}
	return strings.Join(parts, ", ")
}
