package cli

import (
	"cmp"
	"slices"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
)

// hmacFlags are the flags of --auth hmac. The header that the signature goes
// to has the flags of --auth header, and others those of --auth multi-header.
type hmacFlags struct {
	api.HMACSpec
	timestampHeader, timestampUnit, nonceHeader string
}

func (h *hmacFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&h.Algorithm, "hmac-algorithm", "", "hmac: the hash, `NAME`: sha256, sha384 or sha512")
	f.StringVar(&h.Sign, "hmac-sign", "", "hmac: what is signed, as a `TEMPLATE` of {method}, {path}, {query}, {target}, {host}, {body}, {timestamp}, {nonce}, {sha256:…} of these, {{field}} and text (default body)")
	f.StringVar(&h.Encoding, "hmac-encoding", "", "hmac: how the signature is written, `FORM`: hex or base64 (default hex)")
	f.StringVar(&h.KeyEncoding, "hmac-key-encoding", "", "hmac: how the key is stored, `FORM`: raw, hex or base64 (default raw)")
	f.StringVar(&h.timestampHeader, "hmac-timestamp-header", "", "hmac: the header `NAME` of {timestamp}")
	f.StringVar(&h.timestampUnit, "hmac-timestamp-unit", "", "hmac: the `UNIT` of {timestamp}, s or ms (default s)")
	f.StringVar(&h.nonceHeader, "hmac-nonce-header", "", "hmac: the header `NAME` of {nonce}, a number that rises with each call")
	completeWords(cmd, "hmac-algorithm", "sha256", "sha384", "sha512")
	completeWords(cmd, "hmac-encoding", "hex", "base64")
	completeWords(cmd, "hmac-key-encoding", "raw", "hex", "base64")
	completeWords(cmd, "hmac-timestamp-unit", "s", "ms")
}

// check says in the words of the command line what is wrong.
func (h *hmacFlags) check(header string) error {
	for _, f := range []struct {
		flag, value string
		takes       []string
	}{
		{"hmac-algorithm", h.Algorithm, []string{"sha256", "sha384", "sha512"}},
		{"hmac-encoding", cmp.Or(h.Encoding, "hex"), []string{"hex", "base64"}},
		{"hmac-key-encoding", cmp.Or(h.KeyEncoding, "raw"), []string{"raw", "hex", "base64"}},
		{"hmac-timestamp-unit", cmp.Or(h.timestampUnit, "s"), []string{"s", "ms"}},
	} {
		if !slices.Contains(f.takes, f.value) {
			return api.Errorf(api.InvalidRequest, "--%s cannot be %q: it takes %s", f.flag, f.value, words(f.takes))
		}
	}
	switch {
	case header == "":
		return api.Errorf(api.InvalidRequest, "--auth hmac needs --header-name, the header that the signature goes to")
	case h.timestampUnit != "" && h.timestampHeader == "":
		return api.Errorf(api.InvalidRequest, "--hmac-timestamp-unit needs --hmac-timestamp-header")
	}
	return nil
}

// spec moves what the other flags say to its place.
func (h *hmacFlags) spec(given api.AuthSpec) api.AuthSpec {
	s := h.HMACSpec
	if s.Sign == "body" {
		s.Sign = "{body}"
	}
	s.Output = api.AuthPlace{In: "header", Name: given.HeaderName, Template: given.ValueTemplate}
	s.Headers = given.Headers
	if h.timestampHeader != "" {
		s.Timestamp = &api.AuthPlace{In: "header", Name: h.timestampHeader, Unit: h.timestampUnit}
	}
	if h.nonceHeader != "" {
		s.Nonce = &api.AuthPlace{In: "header", Name: h.nonceHeader}
	}
	return api.AuthSpec{Type: given.Type, HMAC: &s}
}
