package cli

import (
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
)

// secretRefs gathers the fields. For one reference without a field the daemon
// knows which is meant: the only one, or the one that the secret is pinned to.
// Of several, the registry knows those that bear its names.
func secretRefs(provider string, refs, names []string) (map[string]string, error) {
	for _, r := range refs {
		if !strings.Contains(r, "vault:secret:") {
			return nil, api.Errorf(api.InvalidRequest, "--secret-ref takes [FIELD=]vault:secret:ID; --secret takes a name")
		}
	}
	out := map[string]string{}
	several := len(refs)+len(names) > 1
	for i, given := range append(append([]string(nil), refs...), names...) {
		flag, form := "secret-ref", "vault:secret:ID"
		if i >= len(refs) {
			flag, form = "secret", "NAME"
		}
		field, ref, ok := strings.Cut(given, "=")
		if !ok {
			field, ref = "", given
		}
		if ok && field == "" || ref == "" {
			return nil, api.Errorf(api.InvalidRequest, "--%s takes [FIELD=]%s", flag, form)
		}
		if field == "" && several {
			field = fieldOf(provider, ref)
		}
		if _, twice := out[field]; twice {
			return nil, api.Errorf(api.InvalidRequest, "two secrets for one field: name each field once, as in --%s FIELD=%s", flag, form)
		}
		out[field] = ref
	}
	if len(out) == 0 {
		return nil, api.Errorf(api.InvalidRequest, "no secret given: name one with --secret or --secret-ref")
	}
	return out, nil
}

// fieldOf is the field that a secret's name fills at its provider, as the
// registry says; "" where it says nothing.
func fieldOf(provider, name string) string {
	reg, err := registry.Load()
	if err != nil {
		return ""
	}
	if claim, ok := reg.Claims(name); ok && claim.Provider == provider {
		return claim.Secret.Field
	}
	return ""
}
