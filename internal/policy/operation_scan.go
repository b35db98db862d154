package policy

import (
	"fmt"
	"slices"
	"strings"
)

// definitions are what stands at the top of a GraphQL document.
type definitions struct {
	operations []string // types, in order
	fragments  int
}

// scanDocument finds the definitions of a document by its brackets, strings
// and comments alone; why says why it cannot be told with certainty.
//
// Block strings came into the language late. A server that does not know them
// reads three quotes as an empty string and the beginning of another, and may
// find an operation in what is text for everyone else: where such a reading is
// possible, it has to find the same.
func scanDocument(document string) (found definitions, why string) {
	if why = oddCharacter(document); why != "" {
		return found, why
	}
	found, why, _ = scan(document, true)
	if why != "" || !strings.Contains(document, `"""`) {
		return found, why
	}
	old, why, unreadable := scan(document, false)
	if unreadable || why == "" && slices.Equal(old.operations, found.operations) && old.fragments == found.fragments {
		return found, ""
	}
	return found, "has quotes in a block string that some servers take for its end: give the text in variables"
}

// oddCharacter names a character that ends a line or a comment for some
// parsers and not for others, or that is a blank for some and an error for
// others. A carriage return is let through before a line feed alone.
func oddCharacter(document string) string {
	for i, c := range document {
		switch {
		case c == '\t' || c == '\n' || c >= ' ' && c < 0x7f:
			continue
		case c == '\r' && strings.HasPrefix(document[i+1:], "\n"):
			continue
		case c <= 0x9f, c == 0x2028, c == 0x2029, c == 0xFEFF, c&0xFFFE == 0xFFFE:
			return fmt.Sprintf("holds the character %U", c)
		}
	}
	return ""
}

// scan reads the definitions, with block strings or as if there were none.
// unreadable says that no parser could read the document in this way, because
// it is no row of words and marks.
func scan(document string, blocks bool) (found definitions, why string, unreadable bool) {
	s := scanner{text: document, blocks: blocks}
	var open []byte // brackets that wait for their ends
	within := false // a definition
	for {
		mark, word := s.next()
		switch {
		case s.why != "":
			return found, s.why, true
		case mark == 0 && (within || len(open) > 0):
			return found, "ends within a definition", false
		case mark == 0:
			return found, "", false
		}
		switch mark {
		case '(', '[', '{':
			if len(open) == 0 {
				switch {
				case mark == '{' && !within:
					found.operations, within = append(found.operations, opQuery), true
				case mark == '[', mark == '(' && !within:
					return found, "has a '" + string(mark) + "' where a definition begins", false
				}
			}
			if len(open) == maxDocumentDepth {
				return found, fmt.Sprintf("is nested more than %d deep", maxDocumentDepth), false
			}
			open = append(open, mark)
			continue
		case ')', ']', '}':
			last := len(open) - 1
			if last < 0 || !strings.Contains("(){}[]", string(open[last])+string(mark)) {
				return found, "has brackets that don't belong together", false
			}
			if open = open[:last]; last == 0 && mark == '}' {
				within = false
			}
			continue
		}
		switch {
		case len(open) > 0:
		case within && (mark == 'a' || mark == '@'):
		case mark != 'a' || within:
			return found, "has a mark or a text between its definitions", false
		case word == "fragment":
			found.fragments, within = found.fragments+1, true
		case word == opQuery || word == opMutation || word == opSubscription:
			found.operations, within = append(found.operations, word), true
		default:
			return found, "has a definition that is no operation and no fragment", false
		}
	}
}

// A scanner reads words and marks.
type scanner struct {
	text   string
	at     int
	blocks bool
	why    string // why there is no next
}

// next is the next mark: itself, 'a' for a word, '"' for a string; 0 at the
// end.
func (s *scanner) next() (mark byte, word string) {
	for s.at < len(s.text) {
		start, c := s.at, s.text[s.at]
		s.at++
		switch {
		case strings.IndexByte(" \t\r\n,", c) >= 0:
		case c == '#':
			if end := strings.IndexByte(s.text[s.at:], '\n'); end >= 0 {
				s.at += end + 1
			} else {
				s.at = len(s.text)
			}
		case c == '"':
			s.string()
			return c, ""
		case letter(c):
			for s.at < len(s.text) && (letter(s.text[s.at]) || digit(s.text[s.at])) {
				s.at++
			}
			return 'a', s.text[start:s.at]
		case digit(c) || strings.IndexByte("!$&().:=@[]{|}+-", c) >= 0:
			return c, ""
		default:
			s.why = "holds a character that may stand in a string or a comment alone"
			return 0, ""
		}
	}
	return 0, ""
}

func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }

func digit(c byte) bool { return '0' <= c && c <= '9' }

// string reads on to the end of the string whose first quote was read.
func (s *scanner) string() {
	if s.blocks {
		switch s.quotes() {
		case 0:
		case 1: // an empty string
			s.at++
			return
		case 2:
			s.at += 2
			s.block()
			return
		default:
			s.why = tooManyQuotes
			return
		}
	}
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch c {
		case '\n':
			s.why = "has a string that ends with its line"
			return
		case '"':
			if s.blocks && s.quotes() > 0 {
				s.why = tooManyQuotes
			}
			return
		case '\\':
			if !s.escape() {
				s.why = "has an escape in a string that not every parser reads"
				return
			}
		}
	}
	s.why = "has a string without an end"
}

const tooManyQuotes = "has quotes side by side that parsers read in different ways: give the text in variables"

// quotes counts the quotes that follow.
func (s *scanner) quotes() int {
	rest := s.text[s.at:]
	return len(rest) - len(strings.TrimLeft(rest, `"`))
}

// block reads on to the end of a block string.
func (s *scanner) block() {
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		if c != '"' {
			continue
		}
		switch more := s.quotes(); {
		case more == 2 && s.text[s.at-2] != '\\':
			s.at += 2
			return
		case more >= 2:
			s.why = tooManyQuotes
			return
		default:
			s.at += more
		}
	}
	s.why = "has a string without an end"
}

// escape reads what follows a backslash in a string.
func (s *scanner) escape() bool {
	rest := s.text[s.at:]
	switch {
	case rest == "":
		return false
	case strings.IndexByte(`"\/bfnrt`, rest[0]) >= 0:
		s.at++
		return true
	case rest[0] != 'u' || len(rest) < 5:
		return false
	}
	for i := range 4 {
		if _, ok := unhex(rest[1+i]); !ok {
			return false
		}
	}
	s.at += 5
	return true
}
