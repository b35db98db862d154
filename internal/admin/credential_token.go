package admin

import (
	"regexp"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/auth"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/vault"
)

// Bounds of what the options of one credential's tokens add to the state.
const (
	maxTokenList = 64
	maxTokenText = 512
)

// takeOptions takes over what is said of the credential's tokens, each part
// where one of its logins has tokens that it is about: what nothing would heed
// is refused.
func takeOptions(c *vault.Credential, p *registry.Provider, r *api.CredentialCreate) error {
	given := r.Token
	if given == nil {
		return nil
	}
	specs := specsOf(c, p, r)
	is := func(fits func(s *api.AuthSpec) bool) bool {
		return slices.ContainsFunc(specs, func(s api.AuthSpec) bool { return fits(&s) })
	}
	oauth2 := func(grants ...string) bool {
		return is(func(s *api.AuthSpec) bool { return s.OAuth2 != nil && slices.Contains(grants, s.OAuth2.GrantType) })
	}
	app := oauth2(api.GrantGitHubApp)
	for _, part := range []struct {
		what  string
		given bool
		fits  bool
	}{
		{"scopes", len(given.Scopes) > 0, oauth2("client_credentials", "account_credentials", api.GrantJWTBearer)},
		{"a subject", given.Subject != "", oauth2(api.GrantJWTBearer)},
		{"a role", given.RoleARN != "", is(func(s *api.AuthSpec) bool { return s.SigV4 != nil })},
		{"repositories", len(given.Repositories) > 0, app},
		{"permissions", len(given.Permissions) > 0, app},
	} {
		if part.given && !part.fits {
			return api.Errorf(api.InvalidRequest, "%s has no login with tokens that %s could be about", r.Provider, part.what)
		}
	}
	if err := checkRole(given); err != nil {
		return err
	}
	if err := checkTokenTexts(given); err != nil {
		return err
	}
	if err := checkNarrowing(given); err != nil {
		return err
	}
	if given.RoleARN != "" && p == nil {
		spec, ok := auth.WithRegion(*r.Auth, r.Hosts)
		if !ok {
			return api.Errorf(api.InvalidRequest, "no host says in which AWS region the role is assumed").WithHint("add --aws-region REGION")
		}
		if region := spec.SigV4.Region; !regexp.MustCompile(`^[a-z]{2,5}(-[a-z]+)+-[0-9]+$`).MatchString(region) {
			return api.Errorf(api.InvalidRequest, "the role is assumed at STS in the region %s, and AWS has none of that name", api.Quote(region)).WithHint("leave out --role-arn")
		}
	}
	options := *given
	c.Token = &options
	return nil
}

// specsOf are the ways in which the credential can authenticate, with the
// secrets that it has.
func specsOf(c *vault.Credential, p *registry.Provider, r *api.CredentialCreate) []api.AuthSpec {
	if p == nil {
		return []api.AuthSpec{*r.Auth}
	}
	var specs []api.AuthSpec
	for i := range p.Logins {
		l := &p.Logins[i]
		if l.NotYet == "" && !slices.ContainsFunc(l.Fields(), func(field string) bool { return c.Secrets[field] == "" }) {
			specs = append(specs, l.Spec())
		}
	}
	return specs
}

// checkRole holds a role against the forms that AWS has.
func checkRole(o *api.TokenOptions) error {
	switch {
	case o.RoleARN == "" && o.ExternalID+o.SessionName == "":
		return nil
	case o.RoleARN == "":
		return api.Errorf(api.InvalidRequest, "an external id and a session name go with a role").WithHint("add --role-arn ARN")
	}
	// arn:PARTITION:iam::ACCOUNT:role/NAME
	part := strings.SplitN(o.RoleARN, ":", 6)
	if len(part) != 6 || part[0] != "arn" || part[1] != "aws" && !strings.HasPrefix(part[1], "aws-") || !wordOf(part[1], "-", 3, 32) || part[2] != "iam" ||
		part[3] != "" || len(part[4]) != 12 || strings.Trim(part[4], "0123456789") != "" || !strings.HasPrefix(part[5], "role/") || !wordOf(part[5], "_+=,.@/-", 6, 512) {
		return api.Errorf(api.InvalidRequest, "role %s is none: it takes an ARN, such as arn:aws:iam::123456789012:role/reader", api.Quote(o.RoleARN))
	}
	if o.ExternalID != "" && !wordOf(o.ExternalID, "_+=,.@:/-", 2, 1224) {
		return api.Errorf(api.InvalidRequest, "external id %s is none: it takes 2 to 1224 letters, digits and _+=,.@:/-", api.Quote(o.ExternalID))
	}
	if o.SessionName != "" && !wordOf(o.SessionName, "_+=,.@-", 2, 64) {
		return api.Errorf(api.InvalidRequest, "session name %s is none: it takes 2 to 64 letters, digits and _+=,.@-", api.Quote(o.SessionName))
	}
	return nil
}

// wordOf says whether s is least to most letters, digits and others.
func wordOf(s, others string, least, most int) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(others, c) >= 0) {
			return false
		}
	}
	return len(s) >= least && len(s) <= most
}

// checkTokenTexts bounds the other options, which go into requests for tokens.
func checkTokenTexts(o *api.TokenOptions) error {
	texts := slices.Concat(o.Scopes, o.Repositories)
	for name, level := range o.Permissions {
		texts = append(texts, name, level)
	}
	if len(texts) > maxTokenList {
		return api.Errorf(api.InvalidRequest, "more than %d scopes, repositories and permissions", maxTokenList)
	}
	if o.Subject != "" {
		texts = append(texts, o.Subject)
	}
	for _, text := range texts {
		if text == "" || len(text) > maxTokenText {
			return api.Errorf(api.InvalidRequest, "a scope, subject, repository or permission is empty or longer than %d bytes", maxTokenText)
		}
		for i := range len(text) {
			if c := text[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
				return api.Errorf(api.InvalidRequest, "%s holds a blank, a quote or a character that is not ASCII", api.Quote(text))
			}
		}
	}
	return nil
}
