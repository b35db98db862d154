package cli

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"moldable.sh/aivault/internal/secret"
)

// dotenvEntry is one NAME=VALUE of a .env file.
type dotenvEntry struct {
	Name  string
	Value secret.Value
	Line  int // where it begins, from 1
}

// dotenv reads a .env file byte by byte.
type dotenv struct {
	data    []byte
	pos     int
	line    int
	scratch []byte // of one value; never grown, so that no copy stays behind
}

// parseDotenv reads a .env file in the grammar that the tools have in common:
//
//	# a comment
//	NAME=text up to the end of the line, or to a # after a blank
//	export NAME = 'as it stands, over several lines if need be'
//	NAME="with \n, \r, \t, \\, \" and \$"   # a comment
//	NAME=`as it stands, too`
//
// No variable is expanded: what a value would become then is not in the file.
// What the tools read differently (text after a closing quote, a line without
// a name) is an error, and nothing of the file is used. An error tells the
// line and never what stands there, which may be a secret.
func parseDotenv(data []byte) ([]dotenvEntry, error) {
	d := &dotenv{data: bytes.TrimPrefix(data, []byte("\ufeff")), line: 1}
	if bytes.IndexByte(d.data, 0) >= 0 || !utf8.Valid(d.data) {
		return nil, errors.New("it is no text in UTF-8")
	}
	d.scratch = make([]byte, 0, len(d.data))
	var entries []dotenvEntry
	for {
		d.blanks()
		switch d.peek() {
		case end:
			return entries, nil
		case '\n':
			d.next()
		case '#':
			d.comment()
		default:
			e, err := d.entry()
			if err != nil {
				for _, e := range entries {
					e.Value.Wipe()
				}
				return nil, err
			}
			entries = append(entries, e)
		}
	}
}

// end is what peek sees behind the last byte. The text has no NUL.
const end = 0

// peek is the byte to come; a line's end is '\n', however it is written.
func (d *dotenv) peek() byte {
	switch {
	case d.pos >= len(d.data):
		return end
	case d.data[d.pos] == '\r' && (d.pos+1 == len(d.data) || d.data[d.pos+1] == '\n'):
		return '\n'
	}
	return d.data[d.pos]
}

func (d *dotenv) next() {
	if d.peek() == '\n' {
		d.line++
		if d.data[d.pos] == '\r' && d.pos+1 < len(d.data) {
			d.pos++
		}
	}
	d.pos++
}

func (d *dotenv) blanks() {
	for d.peek() == ' ' || d.peek() == '\t' {
		d.pos++
	}
}

func (d *dotenv) comment() {
	for d.peek() != end && d.peek() != '\n' {
		d.pos++
	}
}

func (d *dotenv) fail(why string) error { return fmt.Errorf("line %d: %s", d.line, why) }

func (d *dotenv) entry() (e dotenvEntry, err error) {
	e = dotenvEntry{Line: d.line, Name: d.name()}
	if e.Name == "export" && (d.peek() == ' ' || d.peek() == '\t') {
		d.blanks()
		if d.peek() != '=' { // else it is a name like any other
			e.Name = d.name()
		}
	}
	d.blanks()
	if e.Name == "" || d.peek() != '=' {
		return e, d.fail("it reads NAME=VALUE, with a name of letters, digits, '_', '-' and '.'")
	}
	d.next()
	blank := d.pos
	d.blanks()
	switch quote := d.peek(); quote {
	case '\'', '"', '`':
		e.Value, err = d.quoted(quote)
	case '#':
		if d.pos > blank {
			d.comment()
			return e, nil
		}
		e.Value = d.plain()
	default:
		e.Value = d.plain()
	}
	return e, err
}

// name reads a name; "" where none stands.
func (d *dotenv) name() string {
	start := d.pos
	for {
		c := d.peek()
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
		if !letter && (d.pos == start || (c < '0' || c > '9') && c != '-' && c != '.') {
			return string(d.data[start:d.pos])
		}
		d.pos++
	}
}

// plain reads a value without quotes: to the end of its line, or to a comment
// after a blank, and without the blanks before that.
func (d *dotenv) plain() secret.Value {
	start := d.pos
	for ; d.peek() != end && d.peek() != '\n'; d.pos++ {
		if d.peek() == '#' && d.pos > start && (d.data[d.pos-1] == ' ' || d.data[d.pos-1] == '\t') {
			break
		}
	}
	text := bytes.TrimRight(d.data[start:d.pos], " \t")
	d.comment()
	return secret.New(bytes.Clone(text))
}

// quoted reads a value in quotes. Only double quotes know escapes; one that
// they don't know stands as it is, as in a shell.
func (d *dotenv) quoted(quote byte) (secret.Value, error) {
	first := d.line
	d.next()
	text := d.scratch[:0]
	defer func() { clear(text) }()
	for d.peek() != quote {
		c := d.peek()
		if c == end {
			d.line = first
			return secret.Value{}, d.fail("the quote that begins here does not end")
		}
		if escaped := d.escape(quote); escaped != 0 {
			text = append(text, escaped)
			d.pos += 2
			continue
		}
		text = append(text, c)
		d.next()
	}
	d.next()
	d.blanks()
	switch d.peek() {
	case end, '\n':
	case '#':
		d.comment()
	default:
		return secret.Value{}, d.fail("something stands after the closing quote")
	}
	return secret.New(bytes.Clone(text)), nil
}

// escape is what the backslash and the byte after it mean; 0 where they are
// no escape.
func (d *dotenv) escape(quote byte) byte {
	if quote != '"' || d.data[d.pos] != '\\' || d.pos+1 == len(d.data) {
		return 0
	}
	switch c := d.data[d.pos+1]; c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case '\\', '"', '$', '`':
		return c
	}
	return 0
}
