package cli

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/strictjson"
	"moldable.sh/aivault/internal/term"
)

// fail prints err in the one form that errors have, and returns its exit
// status.
func (o *Options) fail(err error) int {
	e := api.AsError(err)
	exit := api.OutcomeOf(e.Code).Exit
	if o.JSON {
		if line, encErr := strictjson.Marshal(e); encErr == nil {
			_, _ = fmt.Fprintf(o.Err, "%s\n", line)
			return exit
		}
	}
	_, _ = fmt.Fprintf(o.Err, "%s %s\n", o.style.Red("error:"), oneLine(e.Message))
	if e.Hint != "" {
		_, _ = fmt.Fprintf(o.Err, "%s %s\n", o.style.Bold("hint:"), oneLine(e.Hint))
	}
	return exit
}

// oneLine is term.Line for texts of ours that may have been joined from
// several lines.
func oneLine(text string) string {
	return term.Line(strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "; "))
}

// say prints a line for people, beside the result.
func (o *Options) say(format string, args ...any) {
	_, _ = fmt.Fprintln(o.Err, term.Line(fmt.Sprintf(format, args...)))
}

// hint prints what to type next.
func (o *Options) hint(format string, args ...any) {
	_, _ = fmt.Fprintln(o.Err, o.style.Bold("hint:"), term.Line(fmt.Sprintf(format, args...)))
}

// notice prints a line that people should know of.
func (o *Options) notice(format string, args ...any) {
	_, _ = fmt.Fprintln(o.Err, o.style.Yellow("notice:"), term.Line(fmt.Sprintf(format, args...)))
}

// printJSON prints v indented, the names in the order of its type.
func (o *Options) printJSON(v any) error {
	line, err := strictjson.Marshal(v)
	if err != nil {
		return fmt.Errorf("cli: encode the result: %w", err)
	}
	return o.printRaw(line)
}

// printRaw prints a JSON text indented. Numbers, strings and the order of
// names stay as they are written.
func (o *Options) printRaw(text jsontext.Value) error {
	text = text.Clone()
	if err := text.Indent(jsontext.WithIndent("  ")); err != nil {
		return fmt.Errorf("cli: indent the result: %w", err)
	}
	return o.print(append(text, '\n'))
}

// print writes data to standard output; what could steer a terminal is
// escaped on its way to one.
func (o *Options) print(data []byte) error {
	if !term.IsTerminal(o.Out) {
		_, err := o.Out.Write(data)
		return err
	}
	w := term.NewWriter(o.Out)
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Flush()
}

// table collects rows and prints them in columns.
type table struct {
	buf  bytes.Buffer
	rows *tabwriter.Writer
}

func newTable(heads ...string) *table {
	t := &table{}
	t.rows = tabwriter.NewWriter(&t.buf, 0, 0, 2, ' ', 0)
	if len(heads) > 0 {
		t.row(heads...)
	}
	return t
}

// row adds a line; each cell is made fit for one.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		if i > 0 {
			_, _ = t.rows.Write([]byte{'\t'})
		}
		_, _ = io.WriteString(t.rows, term.Line(c))
	}
	_, _ = t.rows.Write([]byte{'\n'})
}

// filledTable is a table with a dash for each empty cell, without those of
// the optional columns in which every cell is empty.
func filledTable(heads []string, cells [][]string, optional ...string) *table {
	keep := func(i int) bool {
		return !slices.Contains(optional, heads[i]) || slices.ContainsFunc(cells, func(row []string) bool { return row[i] != "" })
	}
	pick := func(row []string) []string {
		var kept []string
		for i, c := range row {
			if keep(i) {
				kept = append(kept, orDash(c))
			}
		}
		return kept
	}
	t := newTable(pick(heads)...)
	for _, row := range cells {
		t.row(pick(row)...)
	}
	return t
}

// printTable writes the table to standard output, without blanks at line ends.
func (o *Options) printTable(t *table) error {
	if err := t.rows.Flush(); err != nil {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(t.buf.String()) {
		out.WriteString(strings.TrimRight(line, " \n"))
		out.WriteByte('\n')
	}
	return o.print([]byte(out.String()))
}

// printTables prints tables with a line between them.
func (o *Options) printTables(tables []*table) error {
	for i, t := range tables {
		if i > 0 {
			if err := o.print([]byte("\n")); err != nil {
				return err
			}
		}
		if err := o.printTable(t); err != nil {
			return err
		}
	}
	return nil
}

// rfc3339 shows a time of the API; 0 is no time.
func rfc3339(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}

// plural is "1 capability" or "20 capabilities".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// orDash shows an empty cell as a dash.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
