package auth

import (
	"context"
	"errors"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// standIn is put in place of a value that is not at hand: it is base64 and hex
// as well, and can stand wherever a template has it.
const standIn = "00112233445566778899aabbccddeeff"

// tryer is a plan whose values can be looked at one by one. Input has a value
// for every field; have says which of them are more than stand-ins.
type tryer interface {
	try(in Input, have map[string]bool) error
}

// Try says whether spec can authenticate with these values, as far as that can
// be told without a call: what could only fail at each of them is found when a
// value is stored. Something harmless stands in for the fields that are
// missing. Errors are those of New and of Additions.
func Try(spec api.AuthSpec, fields map[string]secret.Value, now time.Time) error {
	p, err := newPlan(spec)
	if err != nil {
		return err
	}
	probe, err := policy.Canonicalise("GET", "/", nil, policy.Rules{})
	if err != nil {
		return err
	}
	in := Input{Fields: map[string]secret.Value{}, Request: probe, Now: now}
	have := map[string]bool{}
	for _, name := range append(SecretFields(spec), Fields(spec)...) {
		if v, ok := fields[name]; ok {
			in.Fields[name], have[name] = v, true
		} else {
			in.Fields[name] = secret.FromString(standIn)
		}
	}
	for _, name := range OptionalFields(spec) {
		if v, ok := fields[name]; ok {
			in.Fields[name], have[name] = v, true
		}
	}
	return try(p, in, have)
}

func try(p plan, in Input, have map[string]bool) error {
	if t, ok := p.(tryer); ok {
		return t.try(in, have)
	}
	add, err := p.Additions(context.Background(), in)
	if err != nil {
		return err
	}
	for _, f := range append(append(add.Headers, add.Query...), add.Form...) {
		f.Value.Wipe()
	}
	add.PathPrefix.Wipe()
	add.Signature.Wipe()
	return nil
}

// Keys are the fields of spec whose values sign and are never sent, so that
// they can be nothing but secrets.
func Keys(spec api.AuthSpec) []string {
	p, err := newPlan(spec)
	if err != nil {
		return nil
	}
	return keysOf(p)
}

// keyed is a plan with such fields.
type keyed interface{ keys() []string }

func keysOf(p plan) []string {
	if k, ok := p.(keyed); ok {
		return k.keys()
	}
	return nil
}

// within names the spec that stands within another, in an error of New.
func within(prefix string, err error) error {
	var e *api.Error
	if !errors.As(err, &e) {
		return err
	}
	inner := api.Errorf(e.Code, "auth.%s%s", prefix, strings.TrimPrefix(e.Message, "auth."))
	inner.Hint = e.Hint
	return inner
}
