package cli

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// mdNode is a JSON value: what it says, and how it can be shown.
type mdNode struct {
	kind byte     // '"', '0', 't', 'f', 'n', '[', '{'
	name string   // of a member
	wrap string   // the --wrap-field that a member's name is
	text string   // of a string; the literal text of a number, true, false or null
	line string   // on one line, where it fits one; also of what is empty
	kids []mdNode // members or elements
	// leaf: a line, or an array of lines. flat: an object of leaves. list: an
	// array of lines and flat objects.
	leaf, flat, list bool
	depth            int // of nesting, 0 for a scalar
}

// treeReader reads values, less the members that are left out.
type treeReader struct {
	dec           *jsontext.Decoder
	exclude, wrap []string
}

func readTree(raw jsontext.Value, exclude, wrap []string) (*mdNode, error) {
	r := &treeReader{jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true)), exclude, wrap}
	var n mdNode
	if err := r.value(&n); err != nil {
		return nil, err
	}
	return &n, nil
}

func (r *treeReader) value(n *mdNode) error {
	n.kind = byte(r.dec.PeekKind())
	if n.kind == '{' || n.kind == '[' {
		return r.container(n)
	}
	v, err := r.dec.ReadValue()
	if err != nil {
		return err
	}
	n.leaf = true
	if n.kind != '"' {
		n.text = string(v)
		n.line = n.text
		return nil
	}
	text, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return err
	}
	n.text = string(text)
	if strings.Contains(n.text, "\n") {
		n.leaf = false
		return nil
	}
	n.line = lineText(n.text)
	return nil
}

func (r *treeReader) container(n *mdNode) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	n.leaf, n.flat, n.list = n.kind == '[', n.kind == '{', n.kind == '['
	for end := jsontext.Kind(n.kind + 2); r.dec.PeekKind() != end; { // ']' and '}' come two after their beginnings
		var k mdNode
		if n.kind == '{' {
			name, err := r.dec.ReadToken()
			if err != nil {
				return err
			}
			k.name = name.String()
			if _, ok := sameField(r.exclude, k.name); ok {
				if err := r.dec.SkipValue(); err != nil {
					return err
				}
				continue
			}
			k.wrap, _ = sameField(r.wrap, k.name)
		}
		if err := r.value(&k); err != nil {
			return err
		}
		n.leaf = n.leaf && k.line != ""
		n.flat = n.flat && k.leaf && k.wrap == ""
		n.list = n.list && (k.line != "" || k.flat)
		n.depth = max(n.depth, k.depth+1)
		n.kids = append(n.kids, k)
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	if len(n.kids) == 0 {
		n.leaf, n.line = true, "[]"
		if n.kind == '{' {
			n.line = "{}"
		}
	}
	return nil
}

// sameField finds the field that a name is, without regard to case.
func sameField(fields []string, name string) (string, bool) {
	for _, f := range fields {
		if strings.EqualFold(f, name) {
			return f, true
		}
	}
	return "", false
}

// appendJSON writes a value as JSON on one line. A string below a wrapped
// field stands between its markers.
func (m *markdown) appendJSON(dst []byte, n *mdNode, label string) []byte {
	switch n.kind {
	case '{', '[':
		dst = append(dst, n.kind)
		for i := range n.kids {
			if i > 0 {
				dst = append(dst, ',')
			}
			k, inside := &n.kids[i], label
			if n.kind == '{' {
				dst = append(append(dst, quoteText(k.name, false)...), ':')
			}
			if k.wrap != "" {
				inside = m.markerOf(k)
			}
			dst = m.appendJSON(dst, k, inside)
		}
		return append(dst, n.kind+2)
	case '"':
		quoted := quoteText(n.text, false)
		if label != "" {
			quoted = `"<begin ` + label + `>` + quoted[1:len(quoted)-1] + `</end ` + label + `>"`
		}
		return append(dst, quoted...)
	}
	return append(dst, n.text...)
}
