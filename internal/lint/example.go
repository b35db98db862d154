package lint

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// An example is what the CLI would make of a worked example's arguments.
type example struct {
	method, path string
	query        []string
	headers      []api.Header
	body         string // as --body gives it
}

func parseExample(text string) (example, error) {
	var e example
	args, err := shellWords(text)
	if err != nil {
		return e, err
	}
	for i := 0; i < len(args); i += 2 {
		flag := args[i]
		switch flag {
		case "-X", "--path", "--query", "-H", "--body", "--body-file", "--form", "--multipart-field", "--multipart-file", "-o":
		default:
			return e, fmt.Errorf("the argument %+q is not one that an example may have", flag)
		}
		if i+1 == len(args) {
			return e, fmt.Errorf("nothing follows %s", flag)
		}
		switch value := args[i+1]; flag {
		case "-X":
			e.method = value
		case "--path":
			e.path = value
		case "--query":
			name, value, _ := strings.Cut(value, "=")
			e.query = append(e.query, url.QueryEscape(name)+"="+url.QueryEscape(value))
		case "--body":
			e.body = value
		case "-H":
			name, value, _ := strings.Cut(value, ":")
			e.headers = append(e.headers, api.Header{Name: name, Value: value})
		}
	}
	return e, nil
}

// shellWords splits as a shell does, for single quotes alone: what else means
// something to a shell has to stand in them.
func shellWords(s string) ([]string, error) {
	var out []string
	var b strings.Builder
	in, quoted := false, false
	for _, c := range s {
		switch {
		case c == '\'':
			quoted, in = !quoted, true
		case c == ' ' && !quoted:
			if in {
				out, in = append(out, b.String()), false
				b.Reset()
			}
		case !quoted && strings.ContainsRune("$`\"\\&;|<>()*?[]", c):
			return nil, fmt.Errorf("%q has to stand in single quotes", string(c))
		default:
			b.WriteRune(c)
			in = true
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if in {
		out = append(out, b.String())
	}
	return out, nil
}
