package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/secret"
)

// maxName bounds how much of a field's name an error repeats.
const maxName = 128

// Error says what is wrong with a document, and where. It holds names, byte
// offsets and our own words; never a value.
type Error struct {
	Pointer string // JSON pointer (RFC 6901) to the field; "" for the document
	Why     string // e.g. "must be a string"
}

// Error quotes the pointer, so that no character of it can act on a terminal.
func (e *Error) Error() string {
	if e.Pointer == "" {
		return "the JSON " + e.Why
	}
	p := e.Pointer
	if len(p) > maxName {
		p = strings.ToValidUTF8(p[:maxName], "") + "..."
	}
	return "field " + strconv.QuoteToASCII(p) + " " + e.Why
}

// explain turns the library's errors into ours. Theirs may repeat the value
// that failed, and so may what a type's own UnmarshalJSON returns.
func explain(data []byte, err error) error {
	if syn, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return explainSyntax(data, syn)
	}
	sem, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return &Error{Why: "cannot be read"}
	}
	ptr := string(sem.JSONPointer)
	if errors.Is(sem.Err, json.ErrUnknownName) {
		return &Error{ptr, "is not known"}
	}
	if inner, ok := errors.AsType[*Error](sem.Err); ok {
		return &Error{ptr + inner.Pointer, inner.Why}
	}
	return &Error{ptr, "must be " + expected(sem.GoType)}
}

func explainSyntax(data []byte, syn *jsontext.SyntacticError) error {
	if errors.Is(syn, jsontext.ErrDuplicateName) {
		return &Error{string(syn.JSONPointer), "appears twice"}
	}
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	if _, err := dec.ReadValue(); err == nil {
		return &Error{Why: fmt.Sprintf("goes on after its end, at byte %d", dec.InputOffset())}
	}
	return &Error{string(syn.JSONPointer), fmt.Sprintf("is malformed at byte %d", syn.ByteOffset)}
}

// explainEncoding names what could not be written.
func explainEncoding(err error) error {
	if syn, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return &Error{string(syn.JSONPointer), "cannot be written as JSON"}
	}
	if sem, ok := errors.AsType[*json.SemanticError](err); ok {
		return &Error{string(sem.JSONPointer), "cannot be written as JSON"}
	}
	return &Error{Why: "cannot be written"}
}

// expected names the JSON that a Go type takes.
func expected(t reflect.Type) string {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return "of another form"
	}
	if t == reflect.TypeFor[secret.Value]() {
		return "a string"
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return "of another form"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		limit := uint64(1) << (t.Bits() - 1)
		return fmt.Sprintf("a whole number from -%d to %d", limit, limit-1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return fmt.Sprintf("a whole number from 0 to %d", ^uint64(0)>>(64-t.Bits()))
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Array, reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "a string in base64"
		}
		return "an array"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "of another form"
}
