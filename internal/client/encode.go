package client

import (
	"io"
	"reflect"
	"strings"
	"sync"
	"unicode/utf8"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

// encode writes a request as JSON. It is strictjson.Marshal but for secrets,
// which that would write as [redacted]: a new secret leaves this process here
// and nowhere else. The caller clears the result.
func encode(v any) ([]byte, error) {
	r := reflect.ValueOf(v)
	if !r.IsValid() || !holdsSecrets(r.Type()) {
		return strictjson.Marshal(v)
	}
	// As much room as the secrets take, so that they seldom move.
	b, err := appendJSON(make([]byte, 0, quotedSize(r)+256), r)
	if err != nil {
		clear(b)
		return nil, err
	}
	return b, nil
}

// holdsSecrets says whether there are secrets in values of a type, which is one
// of package api's: a struct with a value or a list of such structs.
func holdsSecrets(t reflect.Type) bool {
	switch {
	case t == reflect.TypeFor[secret.Value]():
		return true
	case t.Kind() == reflect.Slice:
		return holdsSecrets(t.Elem())
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			if holdsSecrets(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

// appendJSON appends v to b. What it returns holds all that was written, with
// an error too.
func appendJSON(b []byte, v reflect.Value) ([]byte, error) {
	value, isSecret := v.Interface().(secret.Value)
	switch {
	case isSecret:
		return appendQuoted(b, value)
	case !holdsSecrets(v.Type()):
		raw, err := strictjson.Marshal(v.Interface())
		return append(grow(b, len(raw)), raw...), err
	case v.Kind() == reflect.Slice:
		return appendList(b, v)
	}
	return appendObject(b, v)
}

func appendList(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(grow(b, 1), '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(grow(b, 1), ',')
		}
		if b, err = appendJSON(b, v.Index(i)); err != nil {
			return b, err
		}
	}
	return append(grow(b, 1), ']'), nil
}

func appendObject(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(grow(b, 1), '{')
	first := true
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		field := v.Field(i)
		value, isSecret := field.Interface().(secret.Value)
		if strings.Contains(options, "omitzero") && (isSecret && value.IsZero() || field.IsZero()) {
			continue
		}
		b = grow(b, len(name)+4)
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(append(append(b, '"'), name...), '"', ':')
		if b, err = appendJSON(b, field); err != nil {
			return b, err
		}
	}
	return append(grow(b, 1), '}'), nil
}

// grow makes room for n more bytes and clears what it leaves behind.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	bigger := append(make([]byte, 0, 2*cap(b)+n), b...)
	clear(b)
	return bigger
}

// quotedSize is how long the secrets in v are as JSON strings.
func quotedSize(v reflect.Value) (n int) {
	value, isSecret := v.Interface().(secret.Value)
	switch {
	case isSecret:
		return quotedLen(value)
	case !holdsSecrets(v.Type()):
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			n += quotedSize(v.Index(i)) + 64 // and what stands around them
		}
	default:
		for i := range v.NumField() {
			n += quotedSize(v.Field(i))
		}
	}
	return n
}

const hexDigits = "0123456789abcdef"

func quotedLen(v secret.Value) int {
	n := len(`""`)
	for _, c := range v.Expose() {
		switch {
		case c == '"' || c == '\\':
			n += 2
		case c < ' ':
			n += 6
		default:
			n++
		}
	}
	return n
}

// appendQuoted appends a secret as a JSON string.
func appendQuoted(b []byte, v secret.Value) ([]byte, error) {
	raw := v.Expose()
	if !utf8.Valid(raw) {
		return b, api.Errorf(api.InvalidRequest, "the value is not UTF-8 text").WithHint("encode a binary value, e.g. with base64")
	}
	b = append(grow(b, quotedLen(v)), '"')
	for _, c := range raw {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"'), nil
}

// wiped is a request body that is cleared when the transport is done with it.
// The transport may close it while it reads.
type wiped struct {
	mu   sync.Mutex
	b    []byte
	read int
}

func (w *wiped) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.read >= len(w.b) {
		return 0, io.EOF
	}
	n := copy(p, w.b[w.read:])
	w.read += n
	return n, nil
}

func (w *wiped) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.b)
	w.b = nil
	return nil
}
