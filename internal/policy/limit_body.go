package policy

import (
	"bytes"
	"io"
	"mime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/api"
)

// required is a compiled api.RequireJSON.
type required struct {
	pointer string
	tokens  []string // of the pointer, unescaped
	values  []string
}

func compileRequired(fields []api.RequireJSON) ([]required, error) {
	if len(fields) > maxRequired {
		return nil, badLimit("more than %d required fields", maxRequired)
	}
	var out []required
	for _, f := range fields {
		tokens, why := parsePointer(f.Pointer)
		switch {
		case why != "":
			return nil, badLimit("the pointer %s %s", api.Quote(f.Pointer), why)
		case len(f.Values) == 0:
			return nil, badLimit("the pointer %s has no value", api.Quote(f.Pointer))
		case len(f.Values) > maxValues:
			return nil, badLimit("the pointer %s has more than %d values", api.Quote(f.Pointer), maxValues)
		case slices.ContainsFunc(out, func(r required) bool { return r.pointer == f.Pointer }):
			return nil, badLimit("the pointer %s is named twice: name its values together", api.Quote(f.Pointer))
		}
		for _, v := range f.Values {
			if len(v) > maxValue || !utf8.ValidString(v) {
				return nil, badLimit("the pointer %s has a value that is longer than %d bytes or not valid UTF-8", api.Quote(f.Pointer), maxValue)
			}
		}
		out = append(out, required{f.Pointer, tokens, slices.Clone(f.Values)})
	}
	return out, nil
}

// parsePointer splits an RFC 6901 pointer; why says what is wrong with it.
func parsePointer(s string) (tokens []string, why string) {
	switch {
	case len(s) > maxPointer:
		return nil, "is longer than " + strconv.Itoa(maxPointer) + " bytes"
	case !utf8.ValidString(s):
		return nil, "is not valid UTF-8"
	case s == "":
		return nil, ""
	case s[0] != '/':
		return nil, "does not start with '/'"
	}
	for i := range len(s) {
		if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
			return nil, "holds a '~' that is neither ~0 nor ~1"
		}
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for t := range strings.SplitSeq(s[1:], "/") {
		tokens = append(tokens, unescape.Replace(t))
	}
	if len(tokens) > maxTokens {
		return nil, "has more than " + strconv.Itoa(maxTokens) + " parts"
	}
	return tokens, ""
}

// IsJSON says whether a Content-Type names JSON in UTF-8: application/json, or
// an application type that ends in +json.
func IsJSON(contentType string) bool {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return false
	}
	sub, ok := strings.CutPrefix(kind, "application/")
	return ok && (sub == "json" || len(sub) > len("+json") && strings.HasSuffix(sub, "+json"))
}

// LooksLikeJSON says whether a text is JSON as most servers take it: duplicate
// names and broken UTF-8 are let through. A body of such a text has the content
// type application/json where the caller gives none.
func LooksLikeJSON(text string) bool {
	return jsontext.Value(text).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// CheckBody judges what the request's body says: policy_violation where a
// required field is another or missing, or the body is no strict JSON under a
// JSON content type: one value in UTF-8, no name twice in an object, and on
// the way to a required field no second name that differs from its own in case,
// '_' and '-' alone.
func (l *Limits) CheckBody(r *Request, body []byte) error {
	if !l.InspectsBody() {
		return nil
	}
	types := 0
	for i := range r.headers {
		switch {
		case SameHeader(r.headers[i].Name, "Content-Type"):
			if types++; !IsJSON(r.headers[i].Value) {
				return l.refuse("the capability's policy reads the body, and its Content-Type is not JSON")
			}
		case SameHeader(r.headers[i].Name, "Content-Encoding"):
			return l.refuse("the capability's policy reads the body, which may have no Content-Encoding then")
		}
	}
	if types != 1 {
		return l.refuse("the capability's policy reads the body, and there is not one Content-Type that says it is JSON")
	}
	if len(body) > MaxInspected {
		return l.refuse("the capability's policy reads the body, which is longer than %d bytes", MaxInspected)
	}
	in := inspection{limits: l, dec: jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false)), met: make([]bool, len(l.require))}
	open := make([]int, len(l.require))
	for i := range open {
		open[i] = i
	}
	if err := in.value(open, 0); err != nil {
		return err
	}
	if _, err := in.dec.ReadToken(); err != io.EOF {
		return in.malformed()
	}
	for i, met := range in.met {
		if !met {
			return l.refuseField(i)
		}
	}
	return nil
}

func (l *Limits) refuseField(i int) error {
	f := &l.require[i]
	where := "the body"
	if f.pointer != "" {
		where = "the body's field " + api.Quote(f.pointer)
	}
	if len(f.values) == 1 {
		return l.refuse("%s has to be %s under the capability's policy", where, plain(f.values[0]))
	}
	return l.refuse("%s has to be one of %s under the capability's policy", where, listNames(f.values))
}

// inspection is one reading of a body.
type inspection struct {
	limits *Limits
	dec    *jsontext.Decoder
	met    []bool // of limits.require
}

func (in *inspection) malformed() error {
	return in.limits.refuse("the capability's policy reads the body, and it is not one JSON value without duplicate names, at byte %d", in.dec.InputOffset())
}

// value reads the next value, which depth tokens of the required fields open
// led to.
func (in *inspection) value(open []int, depth int) error {
	if len(open) == 0 {
		if in.dec.SkipValue() != nil {
			return in.malformed()
		}
		return nil
	}
	switch in.dec.PeekKind() {
	case '{':
		return in.object(open, depth)
	case '[':
		return in.array(open, depth)
	}
	// Not a token: a token's text is not a number's as it was written.
	raw, err := in.dec.ReadValue()
	if err != nil {
		return in.malformed()
	}
	text := string(raw)
	if raw.Kind() == '"' {
		b, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return in.malformed()
		}
		text = string(b)
	}
	for _, i := range open {
		if f := &in.limits.require[i]; len(f.tokens) == depth {
			in.met[i] = slices.Contains(f.values, text)
		}
	}
	return nil
}

func (in *inspection) object(open []int, depth int) error {
	if _, err := in.dec.ReadToken(); err != nil {
		return in.malformed()
	}
	for in.dec.PeekKind() != '}' {
		token, err := in.dec.ReadToken()
		if err != nil {
			return in.malformed()
		}
		name := token.String()
		var inside []int
		for _, i := range open {
			f := &in.limits.require[i]
			switch {
			case len(f.tokens) == depth:
			case f.tokens[depth] == name:
				inside = append(inside, i)
			case twins(f.tokens[depth], name):
				return in.limits.refuse("the body has the name %s, which some servers read as %s of the field %s that the capability's policy requires",
					api.Quote(name), api.Quote(f.tokens[depth]), api.Quote(f.pointer))
			}
		}
		if err := in.value(inside, depth+1); err != nil {
			return err
		}
	}
	if _, err := in.dec.ReadToken(); err != nil {
		return in.malformed()
	}
	return nil
}

// twins says whether some server might take one name for another: it compares
// without case, as Go's does, or reads max_tokens and maxTokens alike, as
// protobuf's JSON does.
func twins(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	a, b = withoutMarks.Replace(a), withoutMarks.Replace(b)
	return a != "" && strings.EqualFold(a, b)
}

// withoutMarks takes out what words of a name are joined by.
var withoutMarks = strings.NewReplacer("_", "", "-", "")

func (in *inspection) array(open []int, depth int) error {
	if _, err := in.dec.ReadToken(); err != nil {
		return in.malformed()
	}
	indexes := make([]int, len(open))
	for k, i := range open {
		indexes[k] = -1
		if f := &in.limits.require[i]; len(f.tokens) > depth {
			indexes[k] = arrayIndex(f.tokens[depth])
		}
	}
	for n := 0; in.dec.PeekKind() != ']'; n++ {
		var inside []int
		for k, i := range open {
			if indexes[k] == n {
				inside = append(inside, i)
			}
		}
		if err := in.value(inside, depth+1); err != nil {
			return err
		}
	}
	if _, err := in.dec.ReadToken(); err != nil {
		return in.malformed()
	}
	return nil
}

// arrayIndex reads a pointer's token as RFC 6901 does in an array; -1 is none.
func arrayIndex(token string) int {
	n, err := strconv.Atoi(token)
	if err != nil || strconv.Itoa(n) != token {
		return -1
	}
	return n
}
