package cli

import (
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A reader of what renderMarkdown writes, to see that nothing is lost. It
// fails by panicking.
type markdownReader struct {
	lines []string
	at    int
}

// readMarkdown gives the value back, as compact JSON.
func readMarkdown(text string, namespace string) (value string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	r := &markdownReader{lines: strings.Split(strings.TrimSuffix(text, "\n"), "\n")}
	if namespace != "" {
		r.want("<begin " + namespace + ">")
	}
	value = r.block(1)
	if namespace != "" {
		r.want("</end " + namespace + ">")
	}
	if r.blanks(); r.at != len(r.lines) {
		return "", fmt.Errorf("line %d is left over: %q", r.at, r.lines[r.at])
	}
	return value, nil
}

func (r *markdownReader) blanks() {
	for r.at < len(r.lines) && r.lines[r.at] == "" {
		r.at++
	}
}

func (r *markdownReader) peek() string {
	r.blanks()
	if r.at == len(r.lines) {
		return ""
	}
	return r.lines[r.at]
}

func (r *markdownReader) want(line string) {
	if got := r.peek(); got != line {
		panic(fmt.Sprintf("line %d is %q, not %q", r.at, got, line))
	}
	r.at++
}

func (r *markdownReader) block(level int) string {
	line := r.peek()
	switch {
	case strings.HasPrefix(line, "```"):
		return r.fence()
	case strings.HasPrefix(line, "- "):
		values, member := r.items(0)
		if !member {
			return "[" + strings.Join(values, ",") + "]"
		}
		more, _ := r.sections(level)
		return "{" + strings.Join(append(values, more...), ",") + "}"
	case strings.HasPrefix(line, "#"):
		if values, member := r.sections(level); !member {
			return "[" + strings.Join(values, ",") + "]"
		} else {
			return "{" + strings.Join(values, ",") + "}"
		}
	}
	r.at++
	value, rest := scalar(line)
	if rest != "" {
		panic(fmt.Sprintf("%q goes on after a value", line))
	}
	return value
}

var endsInIndex = regexp.MustCompile(`\[[0-9]+\]$`)

func (r *markdownReader) sections(level int) (values []string, member bool) {
	for {
		label, ok := strings.CutPrefix(r.peek(), strings.Repeat("#", level)+" ")
		if !ok {
			return values, member
		}
		r.at++
		prefix := ""
		if member = !endsInIndex.MatchString(label); member {
			key, rest := keyOf(label)
			if rest != "" {
				panic(fmt.Sprintf("heading %q", label))
			}
			prefix = key + ":"
		}
		if marker, ok := strings.CutPrefix(r.peek(), "<begin "); ok {
			r.at++
			values = append(values, prefix+r.block(level+1))
			r.want("</end " + marker)
			continue
		}
		values = append(values, prefix+r.block(level+1))
	}
}

func (r *markdownReader) items(indent int) (values []string, member bool) {
	for r.at < len(r.lines) {
		text, ok := strings.CutPrefix(r.lines[r.at], strings.Repeat("  ", indent)+"- ")
		if !ok {
			return values, member
		}
		r.at++
		if index := fmt.Sprintf("[%d]", len(values)); text == index {
			inside, _ := r.items(indent + 1)
			values = append(values, "{"+strings.Join(inside, ",")+"}")
			continue
		}
		key, rest := keyOf(text)
		switch {
		case rest == ":":
			inside, _ := r.items(indent + 1)
			values = append(values, key+":["+strings.Join(inside, ",")+"]")
			member = true
		case strings.HasPrefix(rest, ": "):
			value, more := scalar(rest[2:])
			if more != "" {
				panic(fmt.Sprintf("%q goes on after a value", text))
			}
			values = append(values, key+":"+value)
			member = true
		default:
			value, more := scalar(text)
			if more != "" {
				panic(fmt.Sprintf("%q goes on after a value", text))
			}
			values = append(values, value)
		}
	}
	return values, member
}

func quoted(s string) string {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// cut reads a code span or a quoted string.
func cut(text string) (value, rest string, ok bool) {
	switch {
	case text == "":
	case text[0] == '`':
		run := len(text) - len(strings.TrimLeft(text, "`"))
		row := text[:run]
		for at := run; ; {
			i := strings.Index(text[at:], row)
			if i < 0 {
				panic("code span without end: " + text)
			}
			end := at + i
			after := end + run
			if after < len(text) && text[after] == '`' { // a longer row
				at = after + len(text[after:]) - len(strings.TrimLeft(text[after:], "`"))
				continue
			}
			inside := text[run:end]
			if strings.HasPrefix(inside, " ") && strings.HasSuffix(inside, " ") {
				inside = inside[1 : len(inside)-1]
			}
			return quoted(inside), text[after:], true
		}
	case text[0] == '"':
		end := 1
		for ; text[end] != '"'; end++ {
			if text[end] == '\\' {
				end++
			}
		}
		return requoted(text[:end+1]), text[end+1:], true
	}
	return "", text, false
}

func requoted(raw string) string {
	b, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		panic(err)
	}
	return quoted(string(b))
}

func keyOf(text string) (key, rest string) {
	if key, rest, ok := cut(text); ok {
		return key, rest
	}
	i := strings.IndexByte(text, ':')
	if i < 0 {
		return quoted(text), ""
	}
	return quoted(text[:i]), text[i:]
}

func scalar(text string) (value, rest string) {
	if value, rest, ok := cut(text); ok {
		return value, rest
	}
	if jsontext.Value(text).IsValid() { // a number, a literal, {} or []
		return text, ""
	}
	return quoted(text), ""
}

func (r *markdownReader) fence() string {
	line := r.peek()
	info := strings.TrimLeft(line, "`")
	row := line[:len(line)-len(info)]
	r.at++
	start := r.at
	for r.lines[r.at] != row {
		r.at++
	}
	text := strings.Join(r.lines[start:r.at], "\n")
	r.at++
	if rest, ok := strings.CutPrefix(info, "text"); ok {
		if strings.HasSuffix(rest, " escaped") {
			text, _ = strconv.Unquote(requoted(`"` + strings.NewReplacer("\n", `\n`, "\t", `\t`, `"`, `\"`, `\"`, `\"`, `\\`, `\\`).Replace(text) + `"`))
		}
		if strings.HasPrefix(rest, " crlf") {
			text = strings.ReplaceAll(text, "\n", "\r\n")
		}
		return quoted(text)
	}
	switch info {
	case "json":
		text = regexp.MustCompile(`"<begin [^>]*>`).ReplaceAllString(text, `"`)
		text = regexp.MustCompile(`</end [^>]*>"`).ReplaceAllString(text, `"`)
		return canonical(text, nil)
	case "base64":
		b, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(text, "\n", ""))
		if err != nil {
			panic(err)
		}
		return string(b)
	}
	panic("a fence of " + info)
}

// canonical writes JSON without white space, its strings in one way, and
// without the members that are excluded. It gives "" for what is no JSON.
func canonical(text string, exclude []string) string {
	dec := jsontext.NewDecoder(strings.NewReader(text), jsontext.AllowDuplicateNames(true))
	var value func() (string, bool)
	value = func() (string, bool) {
		kind := dec.PeekKind()
		if kind != '{' && kind != '[' {
			v, err := dec.ReadValue()
			if err != nil {
				return "", false
			}
			if kind == '"' {
				return requoted(string(v)), true
			}
			return string(v), true
		}
		dec.ReadToken()
		var parts []string
		for dec.PeekKind() != kind+2 {
			name := ""
			dropped := false
			if kind == '{' {
				token, err := dec.ReadToken()
				if err != nil {
					return "", false
				}
				name = quoted(token.String()) + ":"
				for _, e := range exclude {
					dropped = dropped || strings.EqualFold(e, token.String())
				}
			}
			v, ok := value()
			if !ok {
				return "", false
			}
			if !dropped {
				parts = append(parts, name+v)
			}
		}
		if _, err := dec.ReadToken(); err != nil {
			return "", false
		}
		return string(rune(kind)) + strings.Join(parts, ",") + string(rune(kind+2)), true
	}
	v, ok := value()
	if _, err := dec.ReadToken(); !ok || err != io.EOF {
		return ""
	}
	return v
}
