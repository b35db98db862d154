package oauth

import (
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"io"
	"slices"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
)

// assumeRole gets temporary keys of a role from AWS STS, with the credential's
// own. The endpoint is the one of the region that calls are signed for.
func assumeRole() kind {
	return kind{
		name: "aws-sts",
		fits: func(w *Want) bool {
			return w.Spec.Type == "aws-sigv4" && w.Spec.SigV4 != nil && w.Options.RoleARN != ""
		},
		endpoint: stsEndpoint,
		same: func(w *Want) []string {
			o := &w.Options
			return slices.Concat(listed([]string{o.RoleARN, o.ExternalID, sessionName(o)}), pairs(w.Secrets))
		},
		again:  true,
		build:  buildAssumeRole,
		read:   readAssumedRole,
		failed: stsFailure,
	}
}

// stsEndpoint is STS in the want's region, which has been filled in.
func stsEndpoint(w *Want) string {
	region := w.Spec.SigV4.Region
	domain := "amazonaws.com"
	switch {
	case strings.HasPrefix(region, "cn-"):
		domain = "amazonaws.com.cn"
	case strings.HasPrefix(region, "eusc-"):
		domain = "amazonaws.eu"
	}
	return "https://sts." + region + "." + domain + "/"
}

func sessionName(o *api.TokenOptions) string { return cmp.Or(o.SessionName, "aivault") }

func buildAssumeRole(ctx context.Context, a *asking) (*ask, error) {
	region := a.want.Spec.SigV4.Region
	if region == "" || strings.ContainsAny(region, "{}") {
		return nil, api.Errorf(api.AuthFailed, "the hosts of %s do not say in which AWS region its role is assumed", a.want.Provider)
	}
	o := &a.want.Options
	list := []param{
		{"Action", []byte("AssumeRole")},
		{"Version", []byte("2011-06-15")},
		{"RoleArn", []byte(o.RoleARN)},
		{"RoleSessionName", []byte(sessionName(o))},
	}
	if o.ExternalID != "" {
		list = append(list, param{"ExternalId", []byte(o.ExternalID)})
	}
	r := newAsk(stsEndpoint(a.want), "form", list)
	r.pinned = true
	for i := range r.headers {
		if r.headers[i].Name == "Accept" {
			r.headers[i].Value = "text/xml"
		}
	}
	if a.source == nil || a.source.cfg.Sign == nil {
		return r, nil // a check, which sends nothing
	}
	to, request, err := target(a.want, r)
	if err != nil {
		return nil, err
	}
	r.add, err = a.source.cfg.Sign(ctx, a.fields, request, to, r.body, a.now)
	return r, err
}

// readAssumedRole takes the keys out of an answer: XML of one form, and of
// nothing but elements and text.
func readAssumedRole(a *asking, answer *answer) (*obtained, error) {
	const credentials = "AssumeRoleResponse/AssumeRoleResult/Credentials/"
	found, ok := readXML(answer.body, []string{
		credentials + "AccessKeyId", credentials + "SecretAccessKey", credentials + "SessionToken", credentials + "Expiration",
	})
	defer func() {
		for _, b := range found {
			clear(b)
		}
	}()
	if !ok {
		return nil, answer.broken("is not the XML of STS")
	}
	got := &obtained{fields: map[string]secret.Value{}}
	for field, element := range map[string]string{
		"access_key_id": "AccessKeyId", "secret_access_key": "SecretAccessKey", "session_token": "SessionToken",
	} {
		value := bytes.TrimSpace(found[credentials+element])
		if why := badToken(value); why != "" || bytes.ContainsAny(value, " ,") {
			wipe(got.fields)
			return nil, answer.broken("has no " + element + " that can be used")
		}
		got.fields[field] = secret.New(bytes.Clone(value))
	}
	ends, err := time.Parse(time.RFC3339, string(bytes.TrimSpace(found[credentials+"Expiration"])))
	if err != nil || !ends.After(answer.askedAt) || ends.After(answer.askedAt.Add(maxLifetime)) {
		wipe(got.fields)
		return nil, answer.broken("does not say when its keys end")
	}
	got.endsAt = ends
	return got, nil
}

// stsFailure is what STS says of a request that it refuses, by the codes that
// it has; of anything else the status alone is told.
func stsFailure(a *asking, answer *answer) error {
	if answer.status >= 200 && answer.status <= 299 {
		return nil
	}
	if answer.status >= 300 && answer.status <= 399 {
		return answer.failure(a.want)
	}
	const place = "ErrorResponse/Error/Code"
	found, _ := readXML(answer.body, []string{place})
	code := string(found[place])
	switch code {
	case "AccessDenied":
		return api.Errorf(api.OAuthRefreshFailed, "%s gave no key: AccessDenied: the credential's keys may not assume the role, or the external id is another", answer.host).
			WithHint("see the role's trust policy and the user's own policy in IAM")
	case "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException":
		return a.want.renew(api.Errorf(api.OAuthRefreshFailed, "%s gave no key: %s: the credential's own keys are refused", answer.host, code))
	case "RegionDisabledException", "MalformedPolicyDocument", "PackedPolicyTooLarge", "ValidationError", "Throttling", "ServiceUnavailable", "InternalFailure":
		return api.Errorf(api.OAuthRefreshFailed, "%s gave no key: %s (status %d)", answer.host, code, answer.status)
	}
	return api.Errorf(api.OAuthRefreshFailed, "%s gave no key: an unknown error (status %d)", answer.host, answer.status)
}

// Bounds of an XML answer.
const (
	maxXMLDepth  = 8
	maxXMLTokens = 256
)

// readXML finds the texts of elements, each named by its way from the root.
// ok is false when the document is no XML, has one of them twice, or is more
// than elements and text: a directive, an instruction that is not the
// declaration, something behind the root.
func readXML(document []byte, wanted []string) (found map[string][]byte, ok bool) {
	found = map[string][]byte{}
	d := xml.NewDecoder(bytes.NewReader(document))
	d.Strict, d.CharsetReader = true, nil // UTF-8 alone
	var way []string
	roots := 0
	for range maxXMLTokens {
		token, err := d.Token()
		if err == io.EOF {
			return found, roots == 1 && len(way) == 0
		}
		if err != nil {
			return found, false
		}
		switch t := token.(type) {
		case xml.StartElement:
			if _, in := found[strings.Join(way, "/")]; in {
				return found, false // a text alone
			}
			if len(way) == 0 {
				roots++
			}
			if way = append(way, t.Name.Local); len(way) > maxXMLDepth || roots > 1 {
				return found, false
			}
			if place := strings.Join(way, "/"); slices.Contains(wanted, place) {
				if _, twice := found[place]; twice {
					return found, false
				}
				found[place] = []byte{}
			}
		case xml.EndElement:
			way = way[:len(way)-1]
		case xml.CharData:
			place := strings.Join(way, "/")
			if _, in := found[place]; in {
				found[place] = appendGrown(found[place], t)
			} else if len(way) == 0 && len(bytes.TrimSpace(t)) > 0 {
				return found, false
			}
		case xml.ProcInst:
			if t.Target != "xml" || len(way) > 0 || roots > 0 {
				return found, false
			}
		default:
			return found, false
		}
	}
	return found, false
}
