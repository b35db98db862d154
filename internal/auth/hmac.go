package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"slices"
	"strconv"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

// Names that a spec's templates have for what is computed. No field of a
// credential may bear them.
const (
	hmacSignature = "signature"
	hmacTimestamp = "timestamp"
	hmacNonce     = "nonce"
)

// hmacSigner sends a message authentication code (RFC 2104) over parts of the
// request, in the form in which egress sends them.
type hmacSigner struct {
	hash        func() hash.Hash
	encoding    string
	keyField    string
	keyEncoding string
	sign        signTemplate
	signs       map[string]bool // what of the request
	headers     multiHeader
	output      hmacPlace
	timestamp   *hmacPlace
	nonce       *hmacPlace
	millis      bool // unit of the timestamp
}

// hmacPlace is where a computed value goes.
type hmacPlace struct {
	in     string
	header header
	query  query // or the member of a form
}

func newHMAC(spec api.AuthSpec) (plan, error) {
	h := spec.HMAC
	if h == nil {
		return nil, invalid("hmac", "is missing: it says what is signed and where the signature goes")
	}
	s := hmacSigner{
		hash: hmacHash(h.Algorithm), encoding: cmp.Or(h.Encoding, "hex"),
		keyField: cmp.Or(h.KeyField, "secret"), keyEncoding: cmp.Or(h.KeyEncoding, "raw"),
	}
	switch {
	case s.hash == nil:
		return nil, invalid("hmac.algorithm", "%q is not one of sha256, sha384 and sha512", h.Algorithm)
	case s.encoding != "hex" && s.encoding != "base64":
		return nil, invalid("hmac.encoding", "%q is not hex or base64", h.Encoding)
	case !slices.Contains([]string{"raw", "hex", "base64"}, s.keyEncoding):
		return nil, invalid("hmac.keyEncoding", "%q is not raw, hex or base64", h.KeyEncoding)
	case !validFieldName(s.keyField):
		return nil, invalid("hmac.keyField", "%q is not a field's name: letters, digits, _ and - are, behind a letter", h.KeyField)
	}
	var err error
	if s.sign, err = parseSign(cmp.Or(h.Sign, "{body}")); err != nil {
		return nil, invalid("hmac.sign", "%v", err)
	}
	s.signs = s.sign.names()
	if err := s.place(h); err != nil {
		return nil, err
	}
	if err := s.checkNames(); err != nil {
		return nil, err
	}
	if err := s.checkSigned(); err != nil {
		return nil, err
	}
	return &s, nil
}

func hmacHash(algorithm string) func() hash.Hash {
	switch algorithm {
	case "sha256":
		return sha256.New
	case "sha384":
		return sha512.New384
	case "sha512":
		return sha512.New
	}
	return nil
}

// place reads where signature, timestamp and nonce go, and the other headers.
func (s *hmacSigner) place(h *api.HMACSpec) (err error) {
	if len(h.Headers) > 0 {
		list, err := parseHeaders("hmac.headers", h.Headers)
		if err != nil {
			return err
		}
		s.headers = list
	}
	if s.output, err = parsePlace("hmac.output", hmacSignature, &h.Output); err != nil {
		return err
	}
	if h.Output.Last && h.Output.In != "query" {
		return invalid("hmac.output.last", "is about the query, and the signature goes to the %s", h.Output.In)
	}
	for _, p := range []struct {
		value string
		given *api.AuthPlace
		place **hmacPlace
	}{{hmacTimestamp, h.Timestamp, &s.timestamp}, {hmacNonce, h.Nonce, &s.nonce}} {
		if p.given == nil {
			continue
		}
		place, err := parsePlace("hmac."+p.value, p.value, p.given)
		if err != nil {
			return err
		}
		if p.given.Last {
			return invalid("hmac."+p.value+".last", "belongs to the signature alone")
		}
		*p.place = &place
	}
	s.millis = h.Timestamp != nil && h.Timestamp.Unit == "ms"
	return nil
}

func parsePlace(at, value string, given *api.AuthPlace) (hmacPlace, error) {
	p := hmacPlace{in: given.In}
	own := "{{" + value + "}}"
	units := []string{""}
	if value == hmacTimestamp {
		units = []string{"", "s", "ms"}
	}
	if !slices.Contains(units, given.Unit) {
		return p, invalid(at+".unit", "%q is not s or ms, which a timestamp has", given.Unit)
	}
	var err error
	switch given.In {
	case "header":
		if p.header, err = parseHeader(at+".name", at+".template", given.Name, cmp.Or(given.Template, own)); err != nil {
			return p, err
		}
		other := func(p part) bool { return p.field != "" && p.field != value }
		if !p.header.value.names(value) || value != hmacSignature && slices.ContainsFunc(p.header.value, other) {
			return p, invalid(at+".template", "does not hold %s, or holds more than that", own)
		}
	case "query", "body":
		if given.Template != "" {
			return p, invalid(at+".template", "is for headers alone")
		}
		p.query, err = parseQuery(at+".name", at+".template", given.Name, own)
	default:
		err = invalid(at+".in", "%q is not header, query or body", given.In)
	}
	return p, err
}

// names says whether t names a field.
func (t template) names(field string) bool {
	return slices.ContainsFunc(t, func(p part) bool { return p.field == field })
}

// places are where computed values go, the signature last.
func (s *hmacSigner) places() []*hmacPlace {
	var all []*hmacPlace
	for _, p := range []*hmacPlace{s.timestamp, s.nonce, &s.output} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

// checkNames refuses names that stand for two things.
func (s *hmacSigner) checkNames() error {
	seen := map[string]bool{}
	twice := func(place, name string) error {
		key := place + " " + strings.ToLower(name)
		if seen[key] {
			return invalid("hmac", "%s %q is there twice", place, name)
		}
		seen[key] = true
		return nil
	}
	for _, h := range s.headers {
		if err := twice("header", h.name); err != nil {
			return err
		}
	}
	for _, p := range s.places() {
		name := p.query.name
		if p.in == "header" {
			name = p.header.name
		}
		if err := twice(p.in, name); err != nil {
			return err
		}
	}
	fields := append(template{{field: s.keyField}}, s.sign.fields()...)
	for _, h := range s.headers {
		fields = append(fields, h.value...)
	}
	for _, name := range []string{hmacSignature, hmacTimestamp, hmacNonce} {
		if fields.names(name) {
			return invalid("hmac", "a field cannot be called %q: that is what is computed", name)
		}
	}
	return s.checkKey()
}

// checkKey refuses templates that would send the key itself.
func (s *hmacSigner) checkKey() error {
	sent := append([]template{s.output.header.value}, s.headers.templates()...)
	if slices.ContainsFunc(sent, func(t template) bool { return t.names(s.keyField) }) {
		return invalid("hmac", "field %q is the key, which signs and is never sent", s.keyField)
	}
	return nil
}

// checkSigned wants a timestamp and a nonce both signed and sent: one without
// the other proves nothing.
func (s *hmacSigner) checkSigned() error {
	for _, v := range []struct {
		name  string
		place *hmacPlace
	}{{hmacTimestamp, s.timestamp}, {hmacNonce, s.nonce}} {
		if v.place == nil {
			if s.signs[v.name] || slices.ContainsFunc(s.places(), func(p *hmacPlace) bool { return p.header.value.names(v.name) }) {
				return invalid("hmac."+v.name, "is missing: it is used, and not sent anywhere")
			}
			continue
		}
		signed := s.signs[v.name] || v.place.in == "query" && (s.signs["query"] || s.signs["target"]) || v.place.in == "body" && s.signs["body"]
		if !signed {
			return invalid("hmac.sign", "leaves out the %s, which is sent", v.name)
		}
	}
	return nil
}

// SignsBody implements Strategy. What is joined to a form has to see it, too.
func (s *hmacSigner) SignsBody(*policy.Request, egress.Destination) bool {
	return s.signs["body"] || slices.ContainsFunc(s.places(), func(p *hmacPlace) bool { return p.in == "body" })
}

// Additions implements Strategy.
func (s *hmacSigner) Additions(ctx context.Context, in Input) (add egress.Additions, err error) {
	defer func() {
		if err != nil {
			wipeFields(slices.Concat(add.Headers, add.Query, add.Form))
			add = egress.Additions{}
		}
	}()
	key, err := hmacKey(s.keyField, s.keyEncoding, in)
	if err != nil {
		return add, err
	}
	defer clear(key)
	if add, err = s.headers.Additions(ctx, in); err != nil {
		return add, err
	}
	// What is computed is rendered like fields, beside the credential's own.
	computed := Input{Fields: make(map[string]secret.Value, len(in.Fields)+3), Public: map[string]bool{}}
	for name, v := range in.Fields {
		computed.Fields[name], computed.Public[name] = v, in.Public[name]
	}
	if s.timestamp != nil {
		at := in.Now.Unix()
		if s.millis {
			at = in.Now.UnixMilli()
		}
		computed.set(hmacTimestamp, strconv.FormatInt(at, 10), true)
		if err := s.timestamp.add(&add, computed); err != nil {
			return add, err
		}
	}
	if s.nonce != nil {
		computed.set(hmacNonce, strconv.FormatInt(in.nonce(), 10), true)
		if err := s.nonce.add(&add, computed); err != nil {
			return add, err
		}
	}
	mac := hmac.New(s.hash, key)
	if err := s.message(mac, in, computed, add); err != nil {
		return add, err
	}
	computed.set(hmacSignature, s.encode(mac.Sum(nil)), in.Public[s.keyField])
	defer computed.Fields[hmacSignature].Wipe()
	if err := s.output.add(&add, computed); err != nil {
		return add, err
	}
	if !computed.Public[hmacSignature] {
		add.Signature = computed.Fields[hmacSignature].Clone()
	}
	return add, nil
}

func (in *Input) set(name, value string, public bool) {
	in.Fields[name], in.Public[name] = secret.FromString(value), public
}

func (in *Input) nonce() int64 {
	if in.Nonces == nil {
		return in.Now.UnixMicro()
	}
	return in.Nonces.Next(in.Now)
}

func (s *hmacSigner) encode(sum []byte) string {
	if s.encoding == "base64" {
		return base64.StdEncoding.EncodeToString(sum)
	}
	return hex.EncodeToString(sum)
}

// message writes what is signed: the request as egress sends it with all that
// is added but the signature.
func (s *hmacSigner) message(to hash.Hash, in, computed Input, add egress.Additions) error {
	parts := map[string][]byte{"method": []byte(in.Request.Method())}
	path, err := egress.WirePath(in.Destination, in.Request, add)
	if err != nil {
		return err
	}
	query, has, err := egress.WireQuery(in.Destination, in.Request, add)
	if err != nil {
		return err
	}
	parts["path"], parts["query"], parts["target"] = []byte(path), []byte(query), []byte(path)
	if has {
		parts["target"] = []byte(path + "?" + query)
	}
	// A probe goes nowhere; egress sends nothing without a host.
	if s.signs["host"] && in.Destination.Host != "" {
		host, err := egress.WireHost(in.Destination)
		if err != nil {
			return err
		}
		parts["host"] = []byte(host)
	}
	if parts["body"], err = egress.WireBody(in.Request, add, in.Body); err != nil {
		return err
	}
	for _, name := range []string{hmacTimestamp, hmacNonce} {
		parts[name] = computed.Fields[name].Expose()
	}
	if fields := s.sign.fields(); len(fields) > 0 {
		rendered, err := fields.render(in, nil) // checks each
		clear(rendered)
		if err != nil {
			return err
		}
	}
	s.sign.write(to, func(name string) []byte { return parts[name] }, func(field string) []byte { return in.Fields[field].Expose() })
	return nil
}

// add renders the place into additions.
func (p *hmacPlace) add(to *egress.Additions, in Input) error {
	var f egress.Field
	var err error
	if p.in == "header" {
		f, err = p.header.field(in)
	} else {
		f, err = p.query.field(in)
	}
	if err != nil {
		return err
	}
	switch p.in {
	case "header":
		to.Headers = append(to.Headers, f)
	case "query":
		to.Query = append(to.Query, f)
	default:
		to.Form = append(to.Form, f)
	}
	return nil
}

// parts implements partial: of a key that is stored encoded, the key.
func (s *hmacSigner) parts(fields map[string]secret.Value) []secret.Value {
	if s.keyEncoding == "raw" {
		return nil
	}
	key, err := hmacKey(s.keyField, s.keyEncoding, Input{Fields: fields})
	if err != nil {
		return nil
	}
	return []secret.Value{secret.New(key)}
}

func (s *hmacSigner) templates() []template {
	all := []template{{{field: s.keyField}}, s.sign.fields()}
	all = append(all, s.headers.templates()...)
	for _, p := range s.places() {
		own := slices.Clone(p.header.value)
		all = append(all, slices.DeleteFunc(own, func(p part) bool {
			return p.field == hmacSignature || p.field == hmacTimestamp || p.field == hmacNonce
		}))
	}
	return all
}

func (s *hmacSigner) queryParams() []string {
	var names []string
	for _, p := range s.places() {
		if p.in == "query" {
			names = append(names, p.query.name)
		}
	}
	return names
}

func (s *hmacSigner) headerNames() []string {
	names := s.headers.headerNames()
	for _, p := range s.places() {
		if p.in == "header" {
			names = append(names, p.header.name)
		}
	}
	return names
}

// keys implements keyed.
func (s *hmacSigner) keys() []string { return []string{s.keyField} }
