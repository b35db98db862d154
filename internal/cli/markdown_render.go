package cli

import (
	"bytes"
	"encoding/base64"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/api"
)

// maxMarkdownAnswer bounds an answer that is turned into Markdown, in bytes:
// it is read whole, and nobody reads more.
const maxMarkdownAnswer = 8 << 20

// markdownOptions are what the markdown command lets its user choose.
type markdownOptions struct {
	Namespace     string   // names the markers, and puts everything between two of them
	ExcludeFields []string // members that are left out, at any depth
	WrapFields    []string // members whose value stands between markers
}

// Bounds of what the user names.
const (
	maxNamespace = 64
	maxFields    = 256
	maxFieldName = 256
)

// check says what is wrong with the options, before a call is made.
func (o markdownOptions) check() error {
	if len(o.Namespace) > maxNamespace || o.Namespace != markerLabel(o.Namespace) {
		return api.Errorf(api.InvalidRequest, "--namespace %+.80q is not a word of at most %d letters, digits, '-', '_' and '.'", o.Namespace, maxNamespace)
	}
	for _, f := range []struct {
		flag  string
		names []string
	}{{"--exclude-field", o.ExcludeFields}, {"--wrap-field", o.WrapFields}} {
		if len(f.names) > maxFields {
			return api.Errorf(api.InvalidRequest, "more than %d times %s", maxFields, f.flag)
		}
		for _, name := range f.names {
			if name == "" || len(name) > maxFieldName || !utf8.ValidString(name) {
				return api.Errorf(api.InvalidRequest, "%s %+.80q is not the name of a field of at most %d bytes", f.flag, name, maxFieldName)
			}
		}
	}
	return nil
}

// renderMarkdown writes an answer as headed text for people and language
// models. Nothing is lost: every name and value is there, in order, and can be
// told from every other.
//
// Of an object, a member is a list item, and from the first that is too large
// for one on, a heading with what belongs to it below. Members of an array are
// list items, or headings with their index. Below the sixth level of headings
// stands JSON, in a fence. A string stands as it is where that is plain text;
// in a code span where it could be taken for something else (`1` is a string,
// 1 is not); in quotes, with JSON's escapes, where it holds what must not
// reach a terminal; and in a fence if it has lines.
//
// Text of the upstream's cannot end the block it stands in, and what looks
// like one of the markers never stands in the output but as a marker.
func renderMarkdown(w io.Writer, body []byte, o markdownOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	m := &markdown{options: o}
	raw := jsontext.Value(bytes.Trim(body, " \t\r\n")) // JSON's white space and no other
	isJSON := raw.IsValid(jsontext.AllowDuplicateNames(true))
	label := o.Namespace
	if label == "" && !isJSON && len(body) > 0 {
		label = "answer"
	}
	if label != "" {
		m.begin(label)
	}
	switch {
	case isJSON:
		root, err := readTree(raw, o.ExcludeFields, o.WrapFields)
		if err != nil {
			return err
		}
		m.block(root, 1, "")
	case len(body) == 0:
	case utf8.Valid(body):
		m.text(string(body))
	default:
		m.base64(body)
	}
	if label != "" {
		m.end(label)
	}
	_, err := w.Write(m.out.Bytes())
	return err
}

// markdown is a text in the making.
type markdown struct {
	out     bytes.Buffer
	options markdownOptions
}

// maxHeading is the deepest heading that Markdown has.
const maxHeading = 6

func (m *markdown) line(indent int, parts ...string) {
	for range indent {
		m.out.WriteString("  ")
	}
	for _, p := range parts {
		m.out.WriteString(p)
	}
	m.out.WriteByte('\n')
}

// gap puts an empty line between two blocks.
func (m *markdown) gap() {
	if m.out.Len() > 0 {
		m.out.WriteByte('\n')
	}
}

func (m *markdown) begin(label string) { m.gap(); m.line(0, "<begin ", label, ">") }
func (m *markdown) end(label string)   { m.gap(); m.line(0, "</end ", label, ">") }

// block writes a value below the heading label, with headings from level on.
func (m *markdown) block(n *mdNode, level int, label string) {
	switch {
	case n.line != "":
		m.gap()
		m.line(0, n.line)
	case n.kind == '"':
		m.text(n.text)
	case n.kind == '[' && n.list:
		m.gap()
		m.items(n, 0)
	case n.kind == '{' && n.flat:
		m.gap()
		m.members(n, 0)
	case level > maxHeading:
		m.json(n)
	case n.kind == '[':
		for i := range n.kids {
			m.section(&n.kids[i], level, label+index(i))
		}
	default:
		m.object(n, level)
	}
}

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }

// object writes members as list items, and from the first heading on as
// headings: an item below a heading would seem to belong to it.
func (m *markdown) object(n *mdNode, level int) {
	headed := false
	for i := range n.kids {
		k := &n.kids[i]
		if headed = headed || k.wrap != "" || !k.leaf; headed {
			m.section(k, level, keyText(k.name))
			continue
		}
		if i == 0 {
			m.gap()
		}
		m.member(k, 0)
	}
}

// section writes a value under a heading of its own.
func (m *markdown) section(n *mdNode, level int, label string) {
	m.gap()
	m.line(0, strings.Repeat("#", level), " ", label)
	if n.wrap != "" {
		m.begin(m.markerOf(n))
	}
	m.block(n, level+1, label)
	if n.wrap != "" {
		m.end(m.markerOf(n))
	}
}

func (m *markdown) markerOf(n *mdNode) string {
	if m.options.Namespace == "" {
		return markerLabel(n.wrap)
	}
	return m.options.Namespace + ":" + markerLabel(n.wrap)
}

// members writes a flat object's members as list items.
func (m *markdown) members(n *mdNode, indent int) {
	for i := range n.kids {
		m.member(&n.kids[i], indent)
	}
}

func (m *markdown) member(n *mdNode, indent int) {
	if n.line != "" {
		m.line(indent, "- ", keyText(n.name), ": ", n.line)
		return
	}
	m.line(indent, "- ", keyText(n.name), ":")
	m.items(n, indent+1)
}

// items writes an array's elements as list items: scalars, and flat objects
// below their index.
func (m *markdown) items(n *mdNode, indent int) {
	for i := range n.kids {
		k := &n.kids[i]
		if k.line != "" {
			m.line(indent, "- ", k.line)
			continue
		}
		m.line(indent, "- ", index(i))
		m.members(k, indent+1)
	}
}

// text writes a text of several lines, or one that is the answer.
func (m *markdown) text(s string) {
	info := "text"
	if lines := strings.Count(s, "\n"); lines > 0 && lines == strings.Count(s, "\r\n") {
		info, s = info+" crlf", strings.ReplaceAll(s, "\r\n", "\n")
	}
	if !fitForFence(s) {
		info, s = info+" escaped", escapeText(s)
	}
	m.fence(info, s)
}

// json writes what is nested too deep for headings.
func (m *markdown) json(n *mdNode) {
	text := jsontext.Value(m.appendJSON(nil, n, ""))
	if n.depth <= maxIndented {
		if err := text.Indent(jsontext.WithIndent("  ")); err != nil {
			text = m.appendJSON(nil, n, "") // on one line, then
		}
	}
	m.fence("json", string(text))
}

// maxIndented bounds the white space of a deeply nested value.
const maxIndented = 50

func (m *markdown) base64(body []byte) {
	var b strings.Builder
	for text := base64.StdEncoding.EncodeToString(body); text != ""; {
		n := min(len(text), 76)
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(text[:n])
		text = text[n:]
	}
	m.fence("base64", b.String())
}

// fence writes text between two rows of backticks that are longer than any in
// it.
func (m *markdown) fence(info, text string) {
	row := strings.Repeat("`", max(3, longestRun(text)+1))
	m.gap()
	m.line(0, row, info)
	m.line(0, text)
	m.line(0, row)
}
