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
	s := reflect.ValueOf(v)
	if s.Kind() != reflect.Struct {
		return strictjson.Marshal(v)
	}
	size := 64
	for i := range s.NumField() {
		if value, ok := s.Field(i).Interface().(secret.Value); ok {
			size += 6*value.Len() + 64 // so that the buffer never moves and leaves a copy
		}
	}
	b := append(make([]byte, 0, size), '{')
	for i := range s.NumField() {
		name, options, _ := strings.Cut(s.Type().Field(i).Tag.Get("json"), ",")
		field := s.Field(i)
		value, isSecret := field.Interface().(secret.Value)
		if strings.Contains(options, "omitzero") && (isSecret && value.IsZero() || field.IsZero()) {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), '"', ':')
		var raw []byte
		var err error
		if isSecret {
			raw, err = quote(value)
		} else {
			raw, err = strictjson.Marshal(field.Interface())
		}
		if err != nil {
			clear(b)
			return nil, err
		}
		b = grow(b, len(raw)+2)
		b = append(b, raw...)
		clear(raw)
	}
	return append(b, '}'), nil
}

// grow makes room for n more bytes and clears what it leaves behind.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n+64 {
		return b
	}
	bigger := append(make([]byte, 0, 2*cap(b)+n+64), b...)
	clear(b)
	return bigger
}

const hexDigits = "0123456789abcdef"

// quote is a secret as a JSON string.
func quote(v secret.Value) ([]byte, error) {
	raw := v.Expose()
	if !utf8.Valid(raw) {
		return nil, api.Errorf(api.InvalidRequest, "the value is not UTF-8 text").WithHint("encode a binary value, e.g. with base64")
	}
	b := append(make([]byte, 0, 6*len(raw)+2), '"')
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
