package server_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// parseYAML reads the part of YAML that docs/openapi.yaml is written in, and
// refuses the rest: mappings and sequences indented by two spaces, scalars on
// one line (plain or in single quotes), flow sequences of plain scalars, and
// folded blocks (>-). Every scalar is a string.
func parseYAML(text string) (map[string]any, error) {
	p := &yaml{}
	for n, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimLeft(line, " ")
		if strings.ContainsAny(line, "\t\r") {
			return nil, fmt.Errorf("line %d: a tab or carriage return", n+1)
		}
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		p.lines = append(p.lines, yamlLine{len(line) - len(trimmed), trimmed, n + 1})
	}
	v, err := p.block(0)
	if err == nil && len(p.lines) > 0 {
		err = p.wrong("is indented by a wrong number of spaces")
	}
	m, ok := v.(map[string]any)
	if err == nil && !ok {
		err = fmt.Errorf("no mapping")
	}
	return m, err
}

type yamlLine struct {
	indent int
	text   string
	number int
}

type yaml struct{ lines []yamlLine }

func (p *yaml) wrong(why string) error {
	return fmt.Errorf("line %d: %q %s", p.lines[0].number, p.lines[0].text, why)
}

// block reads everything that is indented by exactly so much.
func (p *yaml) block(indent int) (any, error) {
	if len(p.lines) == 0 || p.lines[0].indent != indent {
		return nil, fmt.Errorf("a block is missing")
	}
	if strings.HasPrefix(p.lines[0].text, "- ") {
		return p.sequence(indent)
	}
	return p.mapping(indent)
}

func (p *yaml) sequence(indent int) ([]any, error) {
	var all []any
	for len(p.lines) > 0 && p.lines[0].indent == indent {
		item, ok := strings.CutPrefix(p.lines[0].text, "- ")
		if !ok {
			return nil, p.wrong("is no item")
		}
		if _, _, isMap := cutKey(item); !isMap {
			v, err := p.scalar(item)
			if err != nil {
				return nil, err
			}
			p.lines = p.lines[1:]
			all = append(all, v)
			continue
		}
		p.lines[0].indent, p.lines[0].text = indent+2, item
		v, err := p.mapping(indent + 2)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func (p *yaml) mapping(indent int) (map[string]any, error) {
	m := map[string]any{}
	for len(p.lines) > 0 && p.lines[0].indent == indent && !strings.HasPrefix(p.lines[0].text, "- ") {
		key, rest, ok := cutKey(p.lines[0].text)
		if !ok {
			return nil, p.wrong("has no key")
		}
		if _, twice := m[key]; twice {
			return nil, p.wrong("is there twice")
		}
		v, err := p.value(indent, rest)
		if err != nil {
			return nil, err
		}
		m[key] = v
	}
	return m, nil
}

// value reads what follows a key.
func (p *yaml) value(indent int, rest string) (any, error) {
	first := p.lines[0]
	switch rest {
	case "":
		p.lines = p.lines[1:]
		v, err := p.block(indent + 2)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", first.number, err)
		}
		return v, nil
	case ">-":
		p.lines = p.lines[1:]
		var words []string
		for len(p.lines) > 0 && p.lines[0].indent > indent {
			words = append(words, p.lines[0].text)
			p.lines = p.lines[1:]
		}
		return strings.Join(words, " "), nil
	}
	v, err := p.scalar(rest)
	p.lines = p.lines[1:]
	return v, err
}

func (p *yaml) scalar(s string) (any, error) {
	switch {
	case s[0] == '[':
		inner, ok := strings.CutSuffix(s[1:], "]")
		if !ok || strings.ContainsAny(inner, "[]{}'\"#") {
			return nil, p.wrong("is no simple list")
		}
		var all []any
		for item := range strings.SplitSeq(inner, ", ") {
			all = append(all, item)
		}
		return all, nil
	case s[0] == '\'':
		inner, ok := strings.CutSuffix(s[1:], "'")
		if !ok || len(s) < 2 || strings.Contains(strings.ReplaceAll(inner, "''", ""), "'") {
			return nil, p.wrong("is quoted wrongly")
		}
		return strings.ReplaceAll(inner, "''", "'"), nil
	case strings.ContainsRune("\"{}&*!|>%@`,?-", rune(s[0])) || strings.Contains(s, ": ") || strings.Contains(s, " #") || strings.HasSuffix(s, ":"):
		return nil, p.wrong("needs quotes")
	}
	return s, nil
}

// cutKey splits "key: value" and "key:".
func cutKey(s string) (key, rest string, ok bool) {
	if s[0] == '\'' {
		key, rest, ok = strings.Cut(s[1:], "':")
	} else if key, rest, ok = strings.Cut(s, ": "); !ok {
		key, ok = strings.CutSuffix(s, ":")
	}
	return key, strings.TrimLeft(rest, " "), ok
}

func TestParseYAML(t *testing.T) {
	got, err := parseYAML("# c\na: 1\nb:\n  - x\n  - k: 'it''s'\n    l: [p, q]\nc:\n  '200':\n    d: >-\n      one\n      two: three\n")
	want := map[string]any{"a": "1", "b": []any{"x", map[string]any{"k": "it's", "l": []any{"p", "q"}}}, "c": map[string]any{"200": map[string]any{"d": "one two: three"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"a: 1\na: 2\n", "a:\n", "a:\n b: 1\n", "a: \"x\"\n", "a: &x 1\n", "a: b: c\n", "\ta: 1\n", "a: 1\n   b: 2\n", "- x\n", "a: [b\n", "a: 'b\n", "a\n"} {
		if got, err := parseYAML(bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}
