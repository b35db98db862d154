package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
)

// followedRow is one row of a table whose others are not known.
func followedRow(line []byte) *table {
	t := newTable()
	cells := auditCells(line)
	for i, width := range [...]int{20, 6, 15, 8, 0, 0} {
		cells[i] = fmt.Sprintf("%-*s", width, cells[i])
	}
	t.row(cells[:]...)
	return t
}

func auditTable(list api.AuditList) *table {
	t := newTable("TIME", "SEQ", "EVENT", "WHO", "WHAT", "RESULT")
	for _, raw := range list.Records {
		cells := auditCells(raw)
		t.row(cells[:]...)
	}
	return t
}

const auditColumns = 6

// auditCells are a record's time, number, event, caller, matter and result.
func auditCells(raw []byte) [auditColumns]string {
	var r auditLine
	// A newer daemon may write fields that this CLI does not know.
	if err := json.Unmarshal(raw, &r); err != nil {
		return [auditColumns]string{"-", "-", "unreadable", "-", "-", "see --json"}
	}
	return [auditColumns]string{rfc3339(r.AtMs), strconv.FormatUint(r.Seq, 10), r.Event, auditWho(r.Caller), auditWhat(r.Record), orDash(auditResult(r.Record))}
}

// auditLine is a record with what the log puts in front of it.
type auditLine struct {
	Seq  uint64 `json:"seq"`
	AtMs int64  `json:"atMs"`
	audit.Record
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
	case "call", audit.EchoRedacted:
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
	if r.Count > 0 {
		parts = append(parts, fmt.Sprintf("and %d more like it", r.Count))
	}
	return strings.Join(parts, ", ")
}
