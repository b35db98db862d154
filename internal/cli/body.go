package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/strictjson"
)

// Limits of what the CLI looks at or sends in one piece.
const (
	maxInline   = 1 << 20  // a longer body travels beside the envelope
	maxEnvelope = 32 << 20 // of --request-file
	maxPeek     = 1 << 20  // of a pipe, to see whether it is JSON
)

// envelope reads --request or --request-file; nil when neither is given.
func (f *callFlags) envelope(ctx context.Context, o *Options, cmd *cobra.Command) (*api.Call, error) {
	if err := oneOf(cmd, "request", "request-file"); err != nil {
		return nil, err
	}
	flag := "request"
	if cmd.Flags().Changed("request-file") {
		flag = "request-file"
	}
	if !cmd.Flags().Changed(flag) {
		return nil, nil
	}
	for _, name := range manualFlags() {
		if cmd.Flags().Changed(name) {
			return nil, api.Errorf(api.InvalidRequest, "--%s holds the whole request and does not mix with --%s", flag, name)
		}
	}
	text := []byte(f.request)
	if flag == "request-file" {
		var err error
		if text, err = o.readAll(ctx, flag, f.requestFile, maxEnvelope); err != nil {
			return nil, err
		}
	}
	return parseEnvelope(flag, text)
}

// looseCall is api.Call with the capability left open: it is given beside it.
type looseCall struct {
	Capability  string      `json:"capability,omitzero"`
	Credential  string      `json:"credential,omitzero"`
	WorkspaceID string      `json:"workspaceId,omitzero"`
	GroupID     string      `json:"groupId,omitzero"`
	TimeoutMs   int64       `json:"timeoutMs,omitzero"`
	Request     api.Request `json:"request"`
}

// parseEnvelope reads the envelope of the API, or its request alone. Which of
// the two it is, the names at the top say.
func parseEnvelope(flag string, text []byte) (*api.Call, error) {
	text = bytes.TrimSpace(text)
	var call looseCall
	err := strictjson.Unmarshal(text, &call)
	if err != nil && !isEnvelope(text) {
		var r api.Request
		err = strictjson.Unmarshal(text, &r)
		call = looseCall{Request: r}
	}
	if err != nil {
		return nil, api.Errorf(api.InvalidRequest, "--%s: %w", flag, err)
	}
	out := api.Call(call)
	return &out, nil
}

// isEnvelope says whether the object has a name that only the envelope has.
func isEnvelope(text []byte) bool {
	d := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true))
	if tok, err := d.ReadToken(); err != nil || tok.Kind() != '{' {
		return false
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return false
		}
		switch name.String() {
		case "request", "capability", "credential", "workspaceId", "groupId", "timeoutMs":
			return true
		}
		if d.SkipValue() != nil {
			return false
		}
	}
	return false
}

// manualBody sets the body from the one kind of body flag that was used.
func (f *callFlags) manualBody(ctx context.Context, o *Options, cmd *cobra.Command, p *prepared) error {
	r := &p.call.Request
	if err := oneOf(cmd, "body-file", "body-file-path"); err != nil {
		return err
	}
	kinds := [][]string{{"body"}, {"body-file", "body-file-path"}, {"form"}, {"multipart-field", "multipart-file"}}
	var used []string
	for _, kind := range kinds {
		for _, name := range kind {
			if cmd.Flags().Changed(name) {
				used = append(used, "--"+name)
				break
			}
		}
	}
	switch {
	case len(used) == 0:
		return nil
	case len(used) > 1:
		return api.Errorf(api.InvalidRequest, "%s exclude each other: a call has one body", strings.Join(used, " and "))
	}
	switch used[0] {
	case "--body":
		if name, at := strings.CutPrefix(f.body, "@"); at && name != "" {
			if _, err := os.Stat(name); err == nil { // what curl would send
				o.notice("the body is the text %q itself; --body-file sends what the file holds", f.body)
			}
		}
		r.Body = &f.body
	case "--form":
		form, err := encodePairs("form", f.form, url.QueryEscape)
		if err != nil {
			return err
		}
		r.Body = &form
		r.Headers = withContentType(r.Headers, "application/x-www-form-urlencoded")
	case "--body-file", "--body-file-path":
		return f.fileBody(ctx, o, strings.TrimPrefix(used[0], "--"), p)
	default:
		return f.multipartBody(ctx, o, p)
	}
	return nil
}

// fileBody streams a file. A regular file's length is sent ahead.
func (f *callFlags) fileBody(ctx context.Context, o *Options, flag string, p *prepared) error {
	s, err := o.open(ctx, flag, f.bodyFile)
	if err != nil {
		return err
	}
	p.close = s.Close
	r := &p.call.Request
	if s.size >= 0 {
		// A first pass over the file: at its first byte for what is no JSON.
		contentType := ""
		if !hasHeader(r.Headers, "content-type") {
			contentType = jsonType(s.file)
		}
		if _, err := s.file.Seek(0, io.SeekStart); err != nil {
			return errors.Join(fileError(flag, f.bodyFile, err), s.Close())
		}
		r.Headers = withContentType(r.Headers, contentType)
		p.body = client.Body{Reader: &exactReader{r: s, left: s.size, name: s.name}, Length: s.size}
		return nil
	}
	head, err := io.ReadAll(io.LimitReader(s, maxPeek+1))
	if err != nil {
		return errors.Join(fileError(flag, f.bodyFile, err), s.Close())
	}
	if len(head) <= maxPeek {
		r.Headers = withContentType(r.Headers, jsonType(bytes.NewReader(head)))
		p.body = client.Body{Reader: bytes.NewReader(head), Length: int64(len(head))}
		return nil
	}
	p.body = client.Body{Reader: io.MultiReader(bytes.NewReader(head), s), Length: -1}
	return nil
}

// fitsInline says whether a body can be a string of the envelope.
func fitsInline(body string) bool { return len(body) <= maxInline && utf8.ValidString(body) }

// jsonType is application/json when all of r is one JSON value, else "".
func jsonType(r io.Reader) string {
	d := jsontext.NewDecoder(r, jsontext.AllowDuplicateNames(true))
	if d.SkipValue() != nil {
		return ""
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return ""
	}
	return "application/json"
}

// exactReader sends as many bytes as were announced, or fails: a file that
// changes its length while it is read must not become another request.
type exactReader struct {
	r    io.Reader
	left int64
	name string
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > e.left {
		p = p[:e.left]
	}
	n, err := e.r.Read(p)
	e.left -= int64(n)
	if errors.Is(err, io.EOF) && e.left > 0 {
		return n, api.Errorf(api.InvalidRequest, "%q became shorter while it was sent", e.name)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
