package cli

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/grant"
)

// callFlags are the flags of invoke and its sisters.
type callFlags struct {
	id *idArg

	method, path string
	queries      []string
	headers      []string

	body, bodyFile       string
	form                 []string
	multipart            []string
	files                []string
	request, requestFile string

	stream, fail bool
	output       string
	timeout      time.Duration
	timeoutMs    int64
	credential   string
	scope        scopeFlags
}

func newCallFlags(cmd *cobra.Command) *callFlags {
	c := &callFlags{}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&c.method, "method", "X", "", "the HTTP `METHOD` (default: the capability's own)")
	f.StringVar(&c.path, "path", "", "the `PATH`, with or without a query (default: the capability's own)")
	f.StringArrayVar(&c.queries, "query", nil, "a query parameter `K=V`, encoded as needed; may be repeated")
	f.StringArrayVarP(&c.headers, "header", "H", nil, "a header, `'Name: value'` or Name=value; may be repeated")
	f.StringVarP(&c.body, "body", "d", "", "the `BODY` (an @ at its start has no meaning)")
	f.StringVar(&c.bodyFile, "body-file", "", "read the body from `PATH`, - for standard input")
	f.StringVar(&c.bodyFile, "body-file-path", "", "the same as --body-file `PATH`")
	f.StringArrayVar(&c.form, "form", nil, "a field `K=V` of an urlencoded form; may be repeated")
	f.StringArrayVar(&c.multipart, "multipart-field", nil, "a field `K=V` of a multipart form; may be repeated")
	f.StringArrayVar(&c.files, "multipart-file", nil, "a file `FIELD=PATH` of a multipart form; may be repeated")
	f.StringVar(&c.request, "request", "", "the request as `JSON`: the API's envelope, or its \"request\" alone")
	f.StringVar(&c.requestFile, "request-file", "", "read --request from `PATH`, - for standard input")
	f.BoolVar(&c.stream, "stream", false, "ask for an event stream (accept: text/event-stream)")
	f.StringVarP(&c.output, "output", "o", "", "write the answer to `PATH`, which appears when it is complete")
	f.DurationVar(&c.timeout, "timeout", 0, "give up after this `DURATION` in all, e.g. 30s")
	f.Int64Var(&c.timeoutMs, "timeout-ms", 0, "the same in `MILLISECONDS`")
	f.StringVar(&c.credential, "credential", "", "use this `CREDENTIAL`")
	f.StringVar(&c.scope.kind, "scope", "", "call in this `SCOPE`: global, workspace or group (default: what the ids say)")
	f.StringVar(&c.scope.workspace, "workspace-id", "", "call for this `WORKSPACE` (default $AIVAULT_WORKSPACE_ID)")
	f.StringVar(&c.scope.group, "group-id", "", "call for this `GROUP` of the workspace (default $AIVAULT_GROUP_ID)")
	f.BoolVarP(&c.fail, "fail", "f", false, "exit 22 when the upstream answers 400 or more")
	c.id = newIDArg(cmd, "capability", "id", "capability")
	return c
}

// manualFlags build a request; they don't mix with a request given whole.
func manualFlags() []string {
	return []string{"method", "path", "query", "header", "body", "body-file", "body-file-path", "form", "multipart-field", "multipart-file"}
}

// prepared is a call that is ready to be made.
type prepared struct {
	call  api.Call
	body  client.Body
	close func() error
}

// prepare turns the flags into a call, which close ends.
func (f *callFlags) prepare(ctx context.Context, o *Options, cmd *cobra.Command, id string) (*prepared, error) {
	p := &prepared{call: api.Call{Capability: id}, close: func() error { return nil }}
	whole, err := f.envelope(ctx, o, cmd)
	if err != nil {
		return nil, err
	}
	if whole != nil {
		if whole.Capability != "" && whole.Capability != id {
			return nil, api.Errorf(api.InvalidRequest, "the request is for capability %q, not for %q", whole.Capability, id)
		}
		p.call = *whole
		p.call.Capability = id
	}
	if err := f.context(o, cmd, &p.call); err != nil {
		return nil, err
	}
	if whole == nil {
		if err := f.manual(ctx, o, cmd, p); err != nil {
			return nil, err
		}
	}
	if f.stream && !hasHeader(p.call.Request.Headers, "accept") {
		p.call.Request.Headers = append(p.call.Request.Headers, api.Header{Name: "accept", Value: "text/event-stream"})
	}
	// A body that JSON cannot carry well travels beside the envelope.
	if b := p.call.Request.Body; b != nil && !fitsInline(*b) {
		p.call.Request.Headers = withContentType(p.call.Request.Headers, jsonType(strings.NewReader(*b)))
		p.body = client.Body{Reader: strings.NewReader(*b), Length: int64(len(*b))}
		p.call.Request.Body = nil
	}
	return p, nil
}

// context fills in who the call is for and how long it may take. A value that
// the envelope has already must be the same.
func (f *callFlags) context(o *Options, cmd *cobra.Command, call *api.Call) error {
	env, err := o.env()
	if err != nil {
		return err
	}
	if err := oneOf(cmd, "timeout", "timeout-ms"); err != nil {
		return err
	}
	ms := f.timeoutMs
	if cmd.Flags().Changed("timeout") {
		ms = f.timeout.Milliseconds()
	}
	if (cmd.Flags().Changed("timeout") || cmd.Flags().Changed("timeout-ms")) && ms < 1 {
		return api.Errorf(api.InvalidRequest, "a timeout must be a millisecond or more")
	}
	if ms > 0 {
		if call.TimeoutMs != 0 && call.TimeoutMs != ms {
			return api.Errorf(api.InvalidRequest, "the request and the flags name different timeouts")
		}
		call.TimeoutMs = ms
	}
	if cmd.Flags().Changed("credential") && f.credential == "" {
		return api.Errorf(api.InvalidRequest, "--credential is empty")
	}
	if err := sameOf("credential", f.credential, &call.Credential); err != nil {
		return err
	}
	return f.scope.ofCall(cmd, grant.Scope{Workspace: env.WorkspaceID, Group: env.GroupID}, call)
}

// manual builds the request from its flags.
func (f *callFlags) manual(ctx context.Context, o *Options, cmd *cobra.Command, p *prepared) error {
	r := &p.call.Request
	r.Method, r.Path = f.method, f.path
	for _, h := range f.headers {
		header, err := parseHeader(h)
		if err != nil {
			return err
		}
		r.Headers = append(r.Headers, header)
	}
	if len(f.queries) > 0 {
		query, err := encodePairs("query", f.queries, queryEscape)
		if err != nil {
			return err
		}
		r.Path = addQuery(r.Path, query) // with no path, to the default one
	}
	return f.manualBody(ctx, o, cmd, p)
}

// parseHeader reads 'Name: value' and Name=value, whichever sign comes first.
func parseHeader(h string) (api.Header, error) {
	i := strings.IndexAny(h, ":=")
	if i < 0 || strings.TrimSpace(h[:i]) == "" {
		return api.Header{}, api.Errorf(api.InvalidRequest, "--header takes 'Name: value' or Name=value")
	}
	return api.Header{Name: strings.TrimSpace(h[:i]), Value: strings.Trim(h[i+1:], " \t")}, nil
}

func hasHeader(headers []api.Header, name string) bool {
	for _, h := range headers {
		if strings.EqualFold(h.Name, name) {
			return true
		}
	}
	return false
}

// withContentType adds a content type unless there is one, or none to add.
func withContentType(headers []api.Header, contentType string) []api.Header {
	if contentType == "" || hasHeader(headers, "content-type") {
		return headers
	}
	return append(headers, api.Header{Name: "content-type", Value: contentType})
}

func addQuery(path, query string) string {
	switch {
	case !strings.Contains(path, "?"):
		return path + "?" + query
	case strings.HasSuffix(path, "?") || strings.HasSuffix(path, "&"):
		return path + query
	}
	return path + "&" + query
}

// queryEscape escapes all that is not unreserved; a space is %20, which means
// the same to every server.
func queryEscape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// encodePairs writes K=V pairs in the order given.
func encodePairs(flag string, pairs []string, escape func(string) string) (string, error) {
	var b strings.Builder
	for i, pair := range pairs {
		name, value, err := splitPair(flag, pair)
		if err != nil {
			return "", err
		}
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(escape(name) + "=" + escape(value))
	}
	return b.String(), nil
}
