package registry

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"moldable.sh/aivault/internal/strictjson"
)

// SchemaVersion is the one version of provider files that there is.
const SchemaVersion = 1

// Parse decodes and checks one provider file.
func Parse(file []byte) (*Provider, error) {
	var p Provider
	if err := strictjson.Unmarshal(file, &p); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return &p, nil
}

// check enforces what the schema says and what it cannot say.
func (p *Provider) check() error {
	if p.SchemaVersion != SchemaVersion {
		return fmt.Errorf("schemaVersion is not %d", SchemaVersion)
	}
	if !ValidID(p.ID) {
		return fmt.Errorf("provider %s: not a valid id", quote(p.ID))
	}
	for what, s := range map[string]string{"title": p.Title, "category": p.Category, "getKey.text": p.GetKey.Text} {
		if err := checkLine(what, s); err != nil {
			return err
		}
	}
	for what, s := range map[string]string{"docs": p.Docs, "getKey.url": p.GetKey.URL} {
		if err := checkURL(what, s); err != nil {
			return err
		}
	}
	for _, n := range p.Notes {
		if err := checkLine("notes", n); err != nil {
			return err
		}
	}
	fields, err := p.checkSecrets()
	if err != nil {
		return err
	}
	if err := p.checkHosts(); err != nil {
		return err
	}
	if err := p.checkLogins(fields); err != nil {
		return err
	}
	if err := p.checkOwnHeaders(); err != nil {
		return err
	}
	return p.checkCapabilities()
}

// checkLine wants one printable line of a bounded length.
func checkLine(what, s string) error {
	if s == "" || len(s) > 400 || strings.TrimSpace(s) != s {
		return fmt.Errorf("%s: empty, too long, or with blanks around it", what)
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return fmt.Errorf("%s: not one printable line", what)
		}
	}
	return nil
}

func checkURL(what, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" || ValidHost(u.Hostname()) != nil {
		return fmt.Errorf("%s: %s is not an https URL", what, quote(s))
	}
	return nil
}

const (
	upperCase = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lowerCase = "abcdefghijklmnopqrstuvwxyz"
	digits    = "0123456789"
)

// shaped says whether s is 1 to most characters: one of first, then any of
// first and rest.
func shaped(s, first, rest string, most int) bool {
	for i := range len(s) {
		if strings.IndexByte(first, s[i]) < 0 && (i == 0 || strings.IndexByte(rest, s[i]) < 0) {
			return false
		}
	}
	return s != "" && len(s) <= most
}

func validSecretName(s string) bool { return len(s) > 1 && shaped(s, upperCase, digits+"_", 64) }

// validField is the form of a secret's field and of a host parameter.
func validField(s string) bool { return shaped(s, lowerCase, digits+"_", 32) }

// validPointer says whether s is a JSON pointer (RFC 6901) to a member.
func validPointer(s string) bool {
	for i := range len(s) {
		if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
			return false
		}
	}
	return strings.HasPrefix(s, "/") && checkLine("pointer", s) == nil
}

func (p *Provider) checkSecrets() (fields map[string]bool, err error) {
	if len(p.Secrets) == 0 {
		return nil, errors.New("no secret is named")
	}
	fields = map[string]bool{}
	names := map[string]bool{}
	for _, s := range p.Secrets {
		if !validField(s.Field) || fields[s.Field] {
			return nil, fmt.Errorf("secret %s: field %s is invalid or there twice", quote(s.Name), quote(s.Field))
		}
		fields[s.Field] = true
		for _, n := range append([]string{s.Name}, s.Aliases...) {
			key := FoldName(n)
			if !validSecretName(n) || names[key] {
				return nil, fmt.Errorf("secret name %s is invalid, or there twice but for case, '_' and look-alikes", quote(n))
			}
			names[key] = true
		}
		if s.About != "" {
			if err := checkLine("secret "+s.Name, s.About); err != nil {
				return nil, err
			}
		}
	}
	return fields, nil
}

func (p *Provider) checkHosts() error {
	params := map[string]bool{}
	for _, h := range p.HostParams {
		if !validField(h.Name) || params[h.Name] {
			return fmt.Errorf("host parameter %s is invalid or there twice", quote(h.Name))
		}
		params[h.Name] = true
		switch {
		case h.Kind != "tenant" && h.Kind != "region":
			return fmt.Errorf("host parameter %s: kind is neither tenant nor region", h.Name)
		case h.Kind == "tenant" && len(h.Values) > 0:
			return fmt.Errorf("host parameter %s: a tenant has no list of values", h.Name)
		case h.Pattern == "" && len(h.Values) == 0 && !p.SelfHosted:
			return fmt.Errorf("host parameter %s: neither pattern nor values", h.Name)
		}
		if h.Pattern != "" && !(strings.HasPrefix(h.Pattern, "^") && strings.HasSuffix(h.Pattern, "$")) {
			return fmt.Errorf("host parameter %s: pattern is not anchored at both ends", h.Name)
		}
		if _, err := regexp.Compile(h.Pattern); err != nil {
			return fmt.Errorf("host parameter %s: pattern is no regular expression", h.Name)
		}
	}
	if len(p.Hosts) == 0 {
		return errors.New("no host is named")
	}
	used := map[string]bool{}
	for _, h := range p.allHosts() {
		if err := checkHostTemplate(h, params, used, p.SelfHosted); err != nil {
			return err
		}
	}
	if len(used) != len(params) {
		return errors.New("a host parameter is in no host")
	}
	for i, h := range p.Hosts {
		if slices.Contains(p.Hosts[:i], h) {
			return fmt.Errorf("host %s is there twice", h)
		}
	}
	return p.checkHostPatterns(len(params) > 0)
}

// checkHostPatterns wants patterns exactly where hosts have parameters, each
// '*' and a rest that tenants cannot choose, and each such host to be covered.
func (p *Provider) checkHostPatterns(templated bool) error {
	if templated != (len(p.HostPatterns) > 0) && !p.SelfHosted {
		return errors.New("hostPatterns belong to hosts with parameters, and these to them")
	}
	for _, pattern := range p.HostPatterns {
		rest, ok := strings.CutPrefix(pattern, "*")
		if !ok || !ownSuffix(rest) || ValidHost("x"+rest) != nil {
			return fmt.Errorf("hostPatterns: %s is not '*' and the rest of a host, of two whole labels or more", quote(pattern))
		}
	}
	for _, h := range p.Hosts {
		covered := func(pattern string) bool { return strings.HasSuffix(h, pattern[1:]) }
		if strings.Contains(h, "{") && !p.SelfHosted && !slices.ContainsFunc(p.HostPatterns, covered) {
			return fmt.Errorf("hostPatterns: none covers %s", h)
		}
	}
	return nil
}

// ownSuffix says whether what stands after a tenant's part of a host is the
// provider's: two whole labels or more.
func ownSuffix(rest string) bool {
	if rest == "" || rest[0] != '.' && rest[0] != '-' {
		return false
	}
	_, labels, ok := strings.Cut(rest, ".")
	return ok && strings.Contains(labels, ".")
}

// checkHostTemplate checks a host whose {params} stand for (parts of) labels.
func checkHostTemplate(h string, params, used map[string]bool, selfHosted bool) error {
	if err := checkHostParams(h, params, used); err != nil {
		return err
	}
	if err := ValidHost(fillBraces(h)); err != nil {
		return err
	}
	templated := strings.Contains(h, "{")
	if templated && !selfHosted && !ownSuffix(h[strings.LastIndexByte(h, '}')+1:]) {
		return fmt.Errorf("host %s leaves its registrable part to a parameter", quote(h))
	}
	if !templated && !strings.Contains(h, ".") {
		return fmt.Errorf("host %s is a single label", quote(h))
	}
	return nil
}

// checkHostParams wants every {name} to be a host parameter, and notes it.
func checkHostParams(h string, params, used map[string]bool) error {
	for rest := h; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			return nil
		}
		name, after, ok := strings.Cut(after, "}")
		if !ok || !params[name] {
			return fmt.Errorf("host %s names an unknown parameter", quote(h))
		}
		used[name], rest = true, after
	}
}

func (p *Provider) checkLogins(fields map[string]bool) error {
	if len(p.Logins) == 0 {
		return errors.New("no login is described")
	}
	used := map[string]bool{}
	params := map[string]bool{}
	for _, h := range p.HostParams {
		params[h.Name] = true
	}
	for i := range p.Logins {
		l := &p.Logins[i]
		if err := l.check(fields); err != nil {
			return err
		}
		for _, e := range l.endpoints() {
			if err := checkHostParams(e, params, map[string]bool{}); err != nil {
				return err
			}
		}
		if p.login(l.ID) != l {
			return fmt.Errorf("login %s is there twice", l.ID)
		}
		if l.Note != "" {
			if err := checkLine("login "+l.ID, l.Note); err != nil {
				return err
			}
		}
		for _, f := range l.Fields() {
			used[f] = true
		}
		if l.SigV4 != nil {
			for _, f := range l.SigV4.Fields {
				used[strings.TrimSuffix(f, "?")] = true
			}
		}
	}
	for f := range fields {
		if !used[f] {
			return fmt.Errorf("field %s is used by no login", f)
		}
	}
	return nil
}

// checkOwnHeaders checks the headers and parameters that are sent by default
// or left to the caller: none may be what the provider authenticates with.
func (p *Provider) checkOwnHeaders() error {
	auth := map[string]bool{}
	params := map[string]bool{}
	for i := range p.Logins {
		for _, h := range p.Logins[i].authHeaders() {
			auth[h] = true
		}
		spec := p.Logins[i].Auth
		params[strings.ToLower(spec.ParamName)] = true
		for _, f := range spec.Params {
			params[strings.ToLower(f.Name)] = true
		}
	}
	seen := map[string]bool{}
	for _, h := range p.StaticHeaders {
		name := foldHeader(h.Name)
		switch {
		case !validToken(h.Name) || strings.Contains(h.Name, "_") || seen[name]:
			return fmt.Errorf("static header %s: no plain name, or there twice", quote(h.Name))
		case auth[name]:
			return fmt.Errorf("static header %s: the provider authenticates with it", h.Name)
		case h.Caller == (h.Value != ""):
			return fmt.Errorf("static header %s: wants either a value or caller", h.Name)
		case h.Caller && h.Fixed:
			return fmt.Errorf("static header %s: cannot be both fixed and the caller's", h.Name)
		case transport(name):
			return fmt.Errorf("static header %s: is about the connection", h.Name)
		}
		for i := range len(h.Value) {
			if h.Value[i] < 0x20 || h.Value[i] >= 0x7f {
				return fmt.Errorf("static header %s: value is not printable ASCII", h.Name)
			}
		}
		if strings.TrimSpace(h.Value) != h.Value {
			return fmt.Errorf("static header %s: value has blanks around it", h.Name)
		}
		seen[name] = true
	}
	for _, h := range p.CallerHeaders {
		if name := foldHeader(h); !validToken(h) || auth[name] || transport(name) {
			return fmt.Errorf("callerHeaders: %s cannot be the caller's", quote(h))
		}
	}
	for _, q := range p.CallerQuery {
		if !validToken(q) || params[strings.ToLower(q)] {
			return fmt.Errorf("callerQuery: %s cannot be the caller's", quote(q))
		}
	}
	return nil
}

// transport names the headers that an entry could do harm with; policy has
// the full list of what a caller may not set.
func transport(name string) bool {
	switch name {
	case "host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect",
		"cookie", "accept-encoding", "keep-alive":
		return true
	}
	return strings.HasPrefix(name, "proxy-") || strings.HasPrefix(name, "aivault-")
}

func (p *Provider) checkCapabilities() error {
	if len(p.Capabilities) == 0 {
		return errors.New("no capability is described")
	}
	seen := map[string]bool{}
	for i := range p.Capabilities {
		c := &p.Capabilities[i]
		owner, _, _ := strings.Cut(c.ID, "/")
		if !ValidCapabilityID(c.ID) || owner != p.ID {
			return fmt.Errorf("capability %s: id is not %s/name", quote(c.ID), p.ID)
		}
		if seen[c.ID] {
			return fmt.Errorf("capability %s is there twice", c.ID)
		}
		seen[c.ID] = true
		if err := p.checkCapability(c); err != nil {
			return fmt.Errorf("capability %s: %w", c.ID, err)
		}
	}
	return nil
}

func (p *Provider) checkCapability(c *Capability) error {
	if err := checkLine("description", c.Description); err != nil {
		return err
	}
	for what, s := range map[string]string{"example": c.Example, "note": c.Note} {
		if s == "" {
			continue
		}
		if err := checkLine(what, s); err != nil {
			return err
		}
	}
	if !slices.Contains([]string{"read", "write", "admin", "mixed"}, c.Access) {
		return fmt.Errorf("access %s is not read, write, admin or mixed", quote(c.Access))
	}
	if len(c.Methods) == 0 || len(c.Paths) == 0 {
		return errors.New("no method or no path")
	}
	for i, m := range c.Methods {
		if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, m) || slices.Contains(c.Methods[:i], m) {
			return fmt.Errorf("method %s is unknown or there twice", quote(m))
		}
		if c.Access == "read" && m != "GET" && m != "HEAD" && m != "POST" {
			return fmt.Errorf("a read capability has the method %s", m)
		}
	}
	for i, rule := range c.Paths {
		if err := checkRule(rule); err != nil {
			return err
		}
		if slices.Contains(c.Paths[:i], rule) {
			return fmt.Errorf("path %s is there twice", rule)
		}
	}
	for _, ptr := range c.IssuesToken {
		if !validPointer(ptr) {
			return fmt.Errorf("issuesToken %s is no JSON pointer", quote(ptr))
		}
	}
	for _, m := range c.MatchHeader {
		name, value, ok := strings.Cut(m, ": ")
		if !ok || !validToken(name) || value == "" || strings.TrimSpace(value) != value || checkLine("matchHeader", m) != nil {
			return fmt.Errorf("matchHeader %s is not of the form Name: value", quote(m))
		}
	}
	if err := checkDefault(c); err != nil {
		return err
	}
	return p.checkWay(c)
}

// checkDefault wants a default call that says something and that the
// capability's own methods allow; that its rules admit the path is judged by
// policy, in a test over the whole registry.
func checkDefault(c *Capability) error {
	d := c.Default
	switch {
	case d == nil:
		return nil
	case d.Method == "" && d.Path == "":
		return errors.New("default says nothing")
	case d.Method != "" && !slices.Contains(c.Methods, d.Method):
		return errors.New("default method is not one of the methods")
	case d.Path != "" && (checkRule(d.Path) != nil || d.Path[0] != '/' || strings.Contains(d.Path, "*")):
		return errors.New("default path is no plain path")
	}
	return nil
}

// checkWay wants each capability to have a login that can reach its hosts.
func (p *Provider) checkWay(c *Capability) error {
	all := p.allHosts()
	for i, h := range c.Hosts {
		if !slices.Contains(all, h) || slices.Contains(c.Hosts[:i], h) {
			return fmt.Errorf("host %s is not one of the provider's, or there twice", quote(h))
		}
	}
	for i, id := range c.Logins {
		if p.login(id) == nil || slices.Contains(c.Logins[:i], id) {
			return fmt.Errorf("login %s is unknown or there twice", quote(id))
		}
	}
	logins := p.LoginsOf(c)
	if len(logins) == 0 {
		return errors.New("every login is dedicated, and it names none")
	}
	for _, l := range logins {
		reach := p.Hosts
		if len(l.Hosts) > 0 {
			reach = l.Hosts
		}
		for _, h := range p.HostsOf(c) {
			if !slices.Contains(reach, h) {
				return fmt.Errorf("login %s does not serve host %s", l.ID, h)
			}
		}
		if c.WebSocket != (l.NotYet == "websocket") {
			return fmt.Errorf("login %s: a websocket capability and a login that waits for websocket belong together", l.ID)
		}
	}
	return nil
}

// checkRule is a light check of a path rule; policy compiles every rule of
// the registry in a test, with the rules that requests are judged by.
func checkRule(rule string) error {
	path := strings.TrimPrefix(rule, "=")
	bad := func(why string) error { return fmt.Errorf("path %s %s", quote(rule), why) }
	if !strings.HasPrefix(path, "/") {
		return bad("does not start with '/' or '=/'")
	}
	if len(rule) > 1024 || !utf8.ValidString(rule) {
		return bad("is too long or not UTF-8")
	}
	if i := strings.IndexAny(path, "?#\\;%\"<>^`{|} "); i >= 0 {
		return bad("holds a character that no rule may have")
	}
	for i := range len(path) {
		if path[i] < 0x20 || path[i] >= 0x7f {
			return bad("holds more than printable ASCII")
		}
	}
	if strings.Contains(path, "**") {
		return bad("holds '**'")
	}
	segs := strings.Split(path[1:], "/")
	for i, s := range segs {
		if s == "" && i < len(segs)-1 || s != "" && strings.Trim(s, ".") == "" {
			return bad("has an empty or '.' segment")
		}
	}
	return nil
}
