package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsv4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// Fields of an AWS key. A spec that names one field alone has all three in it.
const (
	awsKeyID   = "access_key_id"
	awsSecret  = "secret_access_key"
	awsSession = "session_token"
)

// byHost stands for what the host says of the service or the region.
const byHost = "{by-host}"

// unsignedPayload stands where a body's hash would, when a body is not signed.
const unsignedPayload = "UNSIGNED-PAYLOAD"

// sigV4 signs a request as AWS does (Signature Version 4), in the header
// Authorization. What is signed is the request as egress sends it.
type sigV4 struct {
	profile string // the one field that holds a whole key, or ""
	session int    // what becomes of a session token: one of the constants
	service string // "" is by the host
	region  string // "" is by the host
}

const (
	sessionNone = iota
	sessionMay
	sessionMust
)

func newSigV4(spec api.AuthSpec) (plan, error) {
	v := spec.SigV4
	if v == nil {
		return nil, invalid("sigv4", "is missing: it says which fields hold the key, and what is signed for")
	}
	s := &sigV4{}
	switch fields := slices.Sorted(slices.Values(v.Fields)); {
	case len(fields) == 1 && validFieldName(fields[0]) && !slices.Contains([]string{awsKeyID, awsSecret, awsSession}, fields[0]):
		s.profile = fields[0]
	case slices.Equal(fields, []string{awsKeyID, awsSecret}):
	case slices.Equal(fields, []string{awsKeyID, awsSecret, awsSession + "?"}):
		s.session = sessionMay
	case slices.Equal(fields, []string{awsKeyID, awsSecret, awsSession}):
		s.session = sessionMust
	default:
		return nil, invalid("sigv4.fields", "are not %s, %s and perhaps %s? or %s, nor one field of another name that holds them all", awsKeyID, awsSecret, awsSession, awsSession)
	}
	if v.Service != byHost {
		if s.service = v.Service; !scopePart(s.service, true) {
			return nil, invalid("sigv4.service", "%q is neither %s nor a service's signing name, such as s3", v.Service, byHost)
		}
	}
	if v.Region != byHost && v.Region != "{region}" {
		if s.region = v.Region; !scopePart(s.region, false) {
			return nil, invalid("sigv4.region", "%q is neither %s nor a region, such as eu-west-1", v.Region, byHost)
		}
	}
	return s, nil
}

// scopePart says whether s can stand in the scope of a signature.
func scopePart(s string, upper bool) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || isDigit(c) || c == '-' || c == '.' || upper && 'A' <= c && c <= 'Z') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func (s *sigV4) templates() []template {
	if s.profile != "" {
		return []template{{{field: s.profile}}}
	}
	all := []template{{{field: awsKeyID}}, {{field: awsSecret}}}
	if s.session == sessionMust {
		all = append(all, template{{field: awsSession}})
	}
	return all
}

// optional implements optionals.
func (s *sigV4) optional() []string {
	if s.session == sessionMay {
		return []string{awsSession}
	}
	return nil
}

// keys implements keyed.
func (s *sigV4) keys() []string {
	if s.profile != "" {
		return []string{s.profile}
	}
	return []string{awsSecret}
}

// queryParams are those by which a request is signed in its query. They would
// be a second signature, of somebody else's.
func (s *sigV4) queryParams() []string {
	return []string{
		"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token",
	}
}

func (s *sigV4) headerNames() []string {
	return []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256"}
}

// SignsBody implements Strategy.
func (s *sigV4) SignsBody(*policy.Request, egress.Destination) bool { return true }

// leavesLong implements leaver: S3 alone takes a body that is not signed, and
// what nothing but the connection protects goes over TLS alone.
func (s *sigV4) leavesLong(_ *policy.Request, to egress.Destination) bool {
	service, _, err := s.scope(to)
	return err == nil && isS3(service) && !to.AllowHTTP
}

// isS3 says whether a service has S3's rules: a path is encoded once, and the
// hash of the body is in a header.
func isS3(service string) bool {
	return service == "s3" || service == "s3-outposts" || service == "s3-object-lambda"
}

// scope is what a signature for a destination is good for.
func (s *sigV4) scope(to egress.Destination) (service, region string, err error) {
	service, region = s.service, s.region
	if service != "" && region != "" {
		return service, region, nil
	}
	if to.Host == "" {
		return "probe", "probe", nil // goes nowhere: egress sends nothing without a host
	}
	name, _, err := policy.ParseHost(to.Host)
	if err != nil {
		return "", "", err
	}
	ofHost, inRegion, known := awsEndpoint(name)
	switch {
	case service == "" && ofHost == "":
		return "", "", api.Errorf(api.AuthFailed, "auth: %s does not say which AWS service it is", name).
			WithHint("name it: aivault credential create … --auth aws-sigv4 --aws-service SERVICE --aws-region REGION")
	case region == "" && (!known || inRegion == ""):
		return "", "", api.Errorf(api.AuthFailed, "auth: %s does not say which AWS region it is in", name).
			WithHint("name it: aivault credential create … --auth aws-sigv4 --aws-region REGION")
	}
	if service == "" {
		service = ofHost
	}
	if region == "" {
		region = inRegion
	}
	return service, region, nil
}

// Additions implements Strategy.
func (s *sigV4) Additions(ctx context.Context, in Input) (egress.Additions, error) {
	key, err := s.key(in)
	if err != nil {
		return egress.Additions{}, err
	}
	defer key.wipe()
	service, region, err := s.scope(in.Destination)
	if err != nil {
		return egress.Additions{}, err
	}
	hash, length, err := s.payload(in, service)
	if err != nil {
		return egress.Additions{}, err
	}
	r, err := signable(in, service, length)
	if err != nil {
		return egress.Additions{}, err
	}
	if isS3(service) || length > 0 {
		r.Header.Set("X-Amz-Content-Sha256", hash)
	}
	// A signer keeps the keys that it derives, by the key's id: one that is
	// used once keeps none, and mistakes no key for another.
	credentials := aws.Credentials{
		AccessKeyID: string(key.id.Expose()), SecretAccessKey: string(key.secret.Expose()), SessionToken: string(key.session.Expose()),
	}
	err = awsv4.NewSigner().SignHTTP(ctx, credentials, r, hash, service, region, in.Now, func(o *awsv4.SignerOptions) {
		o.DisableURIPathEscaping = isS3(service)
	})
	if err != nil {
		return egress.Additions{}, api.Errorf(api.AuthFailed, "auth: the request to %s cannot be signed", in.Destination.Host)
	}
	return s.additions(in, r.Header), nil
}

// additions are those headers of a signed request that it did not have before.
func (s *sigV4) additions(in Input, signed http.Header) egress.Additions {
	var add egress.Additions
	for _, name := range s.headerNames() {
		value := signed.Get(name)
		if value == "" {
			continue
		}
		public := true
		switch name {
		case "Authorization":
			public = in.Public[awsSecret] || s.profile != "" && in.Public[s.profile]
		case "X-Amz-Security-Token":
			public = in.Public[awsSession] || s.profile != "" && in.Public[s.profile]
		}
		add.Headers = append(add.Headers, egress.Field{Name: name, Value: secret.FromString(value), Public: public})
	}
	return add
}

// payload is the hash that is signed for the body, and the body's length.
func (s *sigV4) payload(in Input, service string) (hash string, length int64, err error) {
	length = in.BodyLength
	if in.Body != nil {
		length = int64(len(in.Body))
	}
	if in.Body != nil || length == 0 {
		sum := sha256.Sum256(in.Body)
		return hex.EncodeToString(sum[:]), length, nil
	}
	if length <= policy.MaxInspected || !isS3(service) || in.Destination.AllowHTTP {
		return "", 0, api.Errorf(api.Internal, "auth: a body that has to be signed was not read")
	}
	return unsignedPayload, length, nil
}

// unsigned are headers of the caller's that are not signed: what lies between
// here and the service may rewrite them.
func unsigned(name string) bool {
	switch strings.ToLower(name) {
	case "user-agent", "cookie", "x-amzn-trace-id", "accept-encoding", "connection", "transfer-encoding", "expect", "te":
		return true
	}
	return false
}

// signable is the request as egress sends it, in the form that the signer
// takes.
func signable(in Input, service string, length int64) (*http.Request, error) {
	path, err := egress.WirePath(in.Destination, in.Request, egress.Additions{})
	if err != nil {
		return nil, err
	}
	query, _, err := egress.WireQuery(in.Destination, in.Request, egress.Additions{})
	if err != nil {
		return nil, err
	}
	if isS3(service) {
		if strings.Contains(path, "+") {
			return nil, api.Errorf(api.InvalidRequest, "the path holds a '+', which S3 reads as a space").WithHint("write it as %%2B, or a space as %%20")
		}
		path = encodeOnce(path)
	}
	host := "localhost"
	if in.Destination.Host != "" {
		if host, err = egress.WireHost(in.Destination); err != nil {
			return nil, err
		}
	}
	header := http.Header{}
	for _, h := range in.Request.Headers() {
		if !unsigned(h.Name) {
			name := textproto.CanonicalMIMEHeaderKey(h.Name)
			header[name] = append(header[name], h.Value)
		}
	}
	return &http.Request{
		Method: in.Request.Method(), Host: host, Header: header, ContentLength: length,
		URL: &url.URL{Scheme: "https", Host: host, Opaque: "//" + host + path, RawQuery: query},
	}, nil
}

// encodeOnce is an escaped path in the one form that S3 makes of it: every
// byte escaped that is no letter, digit, '-', '.', '_', '~' or '/'.
func encodeOnce(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		escaped := c == '%' && i+2 < len(path)
		if escaped {
			if v, err := strconv.ParseUint(path[i+1:i+3], 16, 8); err == nil {
				c, i = byte(v), i+2
			}
		}
		if isLetter(c) || isDigit(c) || strings.IndexByte("-._~", c) >= 0 || c == '/' && !escaped {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte("0123456789ABCDEF"[c>>4])
		b.WriteByte("0123456789ABCDEF"[c&15])
	}
	return b.String()
}
