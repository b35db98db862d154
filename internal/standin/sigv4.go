package standin

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SigV4 checks AWS signatures, version 4, as a service of AWS does: from the
// bytes of a request, by the published description of the signature, and with
// nothing of what made them. Its methods may be called concurrently.
type SigV4 struct {
	Service, Region string
	Now             func() time.Time // default time.Now

	mu   sync.Mutex
	keys map[string]awsKey
}

type awsKey struct{ secret, session string }

// Know makes a key known; session is "" for one that does not end.
func (v *SigV4) Know(id, secret, session string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys == nil {
		v.keys = map[string]awsKey{}
	}
	v.keys[id] = awsKey{secret, session}
}

// skew is how far a signature's time may be from the service's.
const skew = 15 * time.Minute

// Raw is the request as HTTP/1.1 has it on the wire, but for the order of its
// header's names, which is lost.
func (s *Seen) Raw() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", s.Method, s.Target, s.Host)
	for _, name := range slices.Sorted(maps.Keys(s.Header)) {
		for _, value := range s.Header[name] {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	b.WriteString("\r\n")
	b.Write(s.Body)
	return b.Bytes()
}

// rawRequest is an HTTP/1.1 request as it came.
type rawRequest struct {
	method, path, query string
	names               []string // lower case, in order
	header              map[string][]string
	body                []byte
}

// parseRaw takes a request apart and changes nothing.
func parseRaw(raw []byte) (*rawRequest, error) {
	head, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok {
		return nil, errors.New("no end of the header")
	}
	lines := strings.Split(string(head), "\r\n")
	first := strings.Split(lines[0], " ")
	if len(first) != 3 || first[2] != "HTTP/1.1" {
		return nil, errors.New("no request line of HTTP/1.1")
	}
	r := &rawRequest{method: first[0], header: map[string][]string{}, body: body}
	r.path, r.query, _ = strings.Cut(first[1], "?")
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, errors.New("a line that is no header field")
		}
		name = strings.ToLower(name)
		r.names = append(r.names, name)
		r.header[name] = append(r.header[name], strings.Trim(value, " \t"))
	}
	return r, nil
}

// one is the value of a field that has to be there once.
func (r *rawRequest) one(name string) (string, error) {
	if len(r.header[name]) != 1 {
		return "", fmt.Errorf("header %s is there %d times", name, len(r.header[name]))
	}
	return r.header[name][0], nil
}

// authorization is what a request says of its signature.
type authorization struct {
	id, date, region, service string
	signed                    []string
	signature                 string
}

func parseAuthorization(s string) (a authorization, err error) {
	rest, ok := strings.CutPrefix(s, "AWS4-HMAC-SHA256 ")
	parts := strings.Split(rest, ", ")
	if !ok || len(parts) != 3 {
		return a, errors.New("an Authorization of another form")
	}
	credential, ok1 := strings.CutPrefix(parts[0], "Credential=")
	signed, ok2 := strings.CutPrefix(parts[1], "SignedHeaders=")
	signature, ok3 := strings.CutPrefix(parts[2], "Signature=")
	scope := strings.Split(credential, "/")
	if !ok1 || !ok2 || !ok3 || len(scope) != 5 || scope[4] != "aws4_request" {
		return a, errors.New("an Authorization of another form")
	}
	return authorization{scope[0], scope[1], scope[2], scope[3], strings.Split(signed, ";"), signature}, nil
}

// Check says why a request, as it came over the wire, is not well signed.
func (v *SigV4) Check(raw []byte) error {
	r, err := parseRaw(raw)
	if err != nil {
		return err
	}
	given, err := r.one("authorization")
	if err != nil {
		return err
	}
	a, err := parseAuthorization(given)
	if err != nil {
		return err
	}
	v.mu.Lock()
	key, known := v.keys[a.id]
	v.mu.Unlock()
	switch {
	case !known:
		return errors.New("a key that is not known")
	case a.service != v.Service || a.region != v.Region:
		return fmt.Errorf("signed for %s in %s, and this is %s in %s", a.service, a.region, v.Service, v.Region)
	}
	at, err := v.checkTime(r, a)
	if err != nil {
		return err
	}
	if session := r.header["x-amz-security-token"]; strings.Join(session, ",") != key.session {
		return errors.New("not the key's session token")
	}
	if err := checkSignedHeaders(r, a.signed); err != nil {
		return err
	}
	hash, err := r.payload(v.Service)
	if err != nil {
		return err
	}
	canonical := strings.Join([]string{
		r.method, canonicalPath(r.path, v.Service == "s3"), canonicalQuery(r.query), canonicalHeaders(r, a.signed), strings.Join(a.signed, ";"), hash,
	}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	scope := strings.Join([]string{a.date, a.region, a.service, "aws4_request"}, "/")
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", at, scope, hex.EncodeToString(sum[:])}, "\n")
	derived := []byte("AWS4" + key.secret)
	for _, part := range []string{a.date, a.region, a.service, "aws4_request", toSign} {
		derived = mac(derived, part)
	}
	if hex.EncodeToString(derived) != a.signature {
		return fmt.Errorf("the signature does not match this canonical request: %q", canonical)
	}
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// checkTime wants the time of the signature, of the day of its key, and near.
func (v *SigV4) checkTime(r *rawRequest, a authorization) (string, error) {
	text, err := r.one("x-amz-date")
	if err != nil {
		return "", err
	}
	at, err := time.Parse("20060102T150405Z", text)
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	switch {
	case err != nil || !strings.HasPrefix(text, a.date+"T"):
		return "", errors.New("a time of another form or of another day")
	case now().Sub(at).Abs() > skew:
		return "", errors.New("the time is too far off")
	}
	return text, nil
}

// checkSignedHeaders wants those that AWS wants to be signed, each of which is
// there.
func checkSignedHeaders(r *rawRequest, signed []string) error {
	if !slices.IsSorted(signed) || len(slices.Compact(slices.Clone(signed))) != len(signed) {
		return errors.New("the signed headers are not in order")
	}
	for _, name := range signed {
		if name != strings.ToLower(name) || len(r.header[name]) == 0 {
			return fmt.Errorf("header %q is signed and not there", name)
		}
	}
	for _, name := range r.names {
		must := name == "host" || name == "content-type" || name == "content-md5" || strings.HasPrefix(name, "x-amz-")
		if must && !slices.Contains(signed, name) {
			return fmt.Errorf("header %q is there and not signed", name)
		}
	}
	if len(r.header["host"]) != 1 {
		return errors.New("no Host, or two")
	}
	return nil
}

// payload is the hash that was signed for the body.
func (r *rawRequest) payload(service string) (string, error) {
	if len(r.header["transfer-encoding"]) > 0 {
		return "", errors.New("a body of unknown length")
	}
	if declared := r.header["content-length"]; len(declared) > 0 || len(r.body) > 0 {
		if len(declared) != 1 || declared[0] != strconv.Itoa(len(r.body)) {
			return "", errors.New("the body is not as long as its header says")
		}
	}
	given := r.header["x-amz-content-sha256"]
	if service == "s3" {
		switch {
		case len(given) == 0:
			return "", errors.New("S3 wants X-Amz-Content-Sha256")
		case given[0] == "UNSIGNED-PAYLOAD" && len(given) == 1:
			return given[0], nil
		}
	}
	sum := sha256.Sum256(r.body)
	hash := hex.EncodeToString(sum[:])
	if len(given) > 0 && (len(given) != 1 || given[0] != hash) {
		return "", errors.New("the body is not the one of X-Amz-Content-Sha256")
	}
	return hash, nil
}

// uriEncode escapes all but letters, digits, '-', '.', '_' and '~', and '/'
// where slash says so.
func uriEncode(s string, slash bool) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~', c == '/' && slash:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// uriDecode undoes escapes; what is none stands for itself.
func uriDecode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b.WriteByte(v[0])
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// canonicalPath is what S3 makes of a path, which reads the name of an object
// in it and escapes that; and what all others make of it, which escape the
// path as it came.
func canonicalPath(path string, s3 bool) string {
	if path == "" {
		return "/"
	}
	if s3 {
		path = uriDecode(strings.ReplaceAll(path, "+", " "))
	}
	return uriEncode(path, true)
}

func canonicalQuery(query string) string {
	var pairs [][2]string
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(strings.ReplaceAll(pair, "+", " "), "=")
		pairs = append(pairs, [2]string{uriEncode(uriDecode(name), false), uriEncode(uriDecode(value), false)})
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	parts := make([]string, len(pairs))
	for i, p := range pairs {
		parts[i] = p[0] + "=" + p[1]
	}
	return strings.Join(parts, "&")
}

func canonicalHeaders(r *rawRequest, signed []string) string {
	var b strings.Builder
	for _, name := range signed {
		values := slices.Clone(r.header[name])
		for i, v := range values {
			for strings.Contains(v, "  ") {
				v = strings.ReplaceAll(v, "  ", " ")
			}
			values[i] = v
		}
		b.WriteString(name + ":" + strings.Join(values, ",") + "\n")
	}
	return b.String()
}
