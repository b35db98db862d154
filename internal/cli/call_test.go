package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
)

// testOptions are a command's surroundings without a terminal.
func testOptions(t *testing.T, stdin io.Reader, environ ...string) (o *Options, out, errs *bytes.Buffer) {
	t.Helper()
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	o = &Options{
		Stdin: stdin, Out: out, Err: errs, Clock: func() time.Time { return time.Unix(1e9, 0) },
		Environ: append([]string{"HOME=" + t.TempDir()}, environ...),
	}
	o.init()
	return o, out, errs
}

// prepareArgs parses an invoke line and prepares its call, without a daemon.
func prepareArgs(t *testing.T, o *Options, args ...string) (*prepared, error) {
	t.Helper()
	var p *prepared
	cmd := &cobra.Command{Use: "invoke", SilenceErrors: true, SilenceUsage: true}
	f := newCallFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := f.id.get(args)
		if err != nil {
			return err
		}
		p, err = f.prepare(cmd.Context(), o, cmd, id)
		return err
	}
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return p, err
}

func str(s string) *string { return &s }

func TestPrepareCall(t *testing.T) {
	for _, c := range []struct {
		name    string
		args    []string
		environ []string
		want    api.Call
	}{
		{"nothing but the id", []string{"openai/chat"}, nil, api.Call{Capability: "openai/chat"}},
		{"the id as a flag", []string{"--capability", "openai/chat", "--id", "openai/chat"}, nil, api.Call{Capability: "openai/chat"}},
		{"a body is as it is given", []string{"a/b", "-d", "@file"}, nil, api.Call{Capability: "a/b", Request: api.Request{Body: str("@file")}}},
		{"an empty body is a body", []string{"a/b", "-d", ""}, nil, api.Call{Capability: "a/b", Request: api.Request{Body: str("")}}},
		{"method, path, headers", []string{"a/b", "-X", "PUT", "--path", "/x?y=1", "-H", "Accept: text/plain", "-H", "X-A=b: c", "-H", "X-B:  d=e "}, nil,
			api.Call{Capability: "a/b", Request: api.Request{Method: "PUT", Path: "/x?y=1", Headers: []api.Header{
				{Name: "Accept", Value: "text/plain"}, {Name: "X-A", Value: "b: c"}, {Name: "X-B", Value: "d=e"}}}}},
		{"query joins a query", []string{"a/b", "--path", "/x?y=1", "--query", "q=a b&c", "--query", "é=ü+"}, nil,
			api.Call{Capability: "a/b", Request: api.Request{Path: "/x?y=1&q=a%20b%26c&%C3%A9=%C3%BC%2B"}}},
		{"query begins one", []string{"a/b", "--path", "/x", "--query", "k="}, nil, api.Call{Capability: "a/b", Request: api.Request{Path: "/x?k="}}},
		{"query of the default path", []string{"a/b", "--query", "k=1", "--query", "l=2"}, nil, api.Call{Capability: "a/b", Request: api.Request{Path: "?k=1&l=2"}}},
		{"form", []string{"a/b", "--form", "a=1 2", "--form", "b==&"}, nil, api.Call{Capability: "a/b", Request: api.Request{
			Headers: []api.Header{{Name: "content-type", Value: "application/x-www-form-urlencoded"}}, Body: str("a=1+2&b=%3D%26")}}},
		{"form keeps a content type", []string{"a/b", "-H", "Content-Type: x/y", "--form", "a=1"}, nil, api.Call{Capability: "a/b", Request: api.Request{
			Headers: []api.Header{{Name: "Content-Type", Value: "x/y"}}, Body: str("a=1")}}},
		{"timeouts", []string{"a/b", "--timeout", "1.5s"}, nil, api.Call{Capability: "a/b", TimeoutMs: 1500}},
		{"timeout in ms", []string{"a/b", "--timeout-ms", "20"}, nil, api.Call{Capability: "a/b", TimeoutMs: 20}},
		{"stream", []string{"a/b", "--stream"}, nil, api.Call{Capability: "a/b", Request: api.Request{Headers: []api.Header{{Name: "accept", Value: "text/event-stream"}}}}},
		{"context of the environment", []string{"a/b"}, []string{"AIVAULT_WORKSPACE_ID=w1", "AIVAULT_GROUP_ID=g1"}, api.Call{Capability: "a/b", WorkspaceID: "w1", GroupID: "g1"}},
		{"flags replace it whole", []string{"a/b", "--workspace-id", "w2", "--credential", "c"}, []string{"AIVAULT_WORKSPACE_ID=w1", "AIVAULT_GROUP_ID=g1"},
			api.Call{Capability: "a/b", WorkspaceID: "w2", Credential: "c"}},
		{"--scope global calls in none", []string{"a/b", "--scope", "global"}, []string{"AIVAULT_WORKSPACE_ID=w1", "AIVAULT_GROUP_ID=g1"}, api.Call{Capability: "a/b"}},
		{"--scope workspace leaves the variable's group", []string{"a/b", "--scope", "workspace"}, []string{"AIVAULT_WORKSPACE_ID=w1", "AIVAULT_GROUP_ID=g1"},
			api.Call{Capability: "a/b", WorkspaceID: "w1"}},
		{"--scope group takes both variables", []string{"a/b", "--scope", "group"}, []string{"AIVAULT_WORKSPACE_ID=w1", "AIVAULT_GROUP_ID=g1"},
			api.Call{Capability: "a/b", WorkspaceID: "w1", GroupID: "g1"}},
		{"a group of the variable's workspace", []string{"a/b", "--group-id", "g2"}, []string{"AIVAULT_WORKSPACE_ID=w1", "AIVAULT_GROUP_ID=g1"},
			api.Call{Capability: "a/b", WorkspaceID: "w1", GroupID: "g2"}},
		{"an envelope with its context", []string{"a/b", "--scope", "group", "--request", `{"workspaceId":"w","groupId":"g","request":{}}`}, []string{"AIVAULT_WORKSPACE_ID=w1"},
			api.Call{Capability: "a/b", WorkspaceID: "w", GroupID: "g"}},
		{"a request alone", []string{"a/b", "--request", `{"method":"GET","path":"/x"}`}, nil, api.Call{Capability: "a/b", Request: api.Request{Method: "GET", Path: "/x"}}},
		{"an empty request", []string{"a/b", "--request", `{}`}, nil, api.Call{Capability: "a/b"}},
		{"an envelope", []string{"a/b", "--request", `{"capability":"a/b","credential":"c","timeoutMs":5,"request":{"body":"x"}}`, "--credential", "c"}, nil,
			api.Call{Capability: "a/b", Credential: "c", TimeoutMs: 5, Request: api.Request{Body: str("x")}}},
		{"an envelope without its capability", []string{"a/b", "--request", `{"request":{}}`}, nil, api.Call{Capability: "a/b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, _, _ := testOptions(t, nil, c.environ...)
			p, err := prepareArgs(t, o, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, p.call); d != "" {
				t.Error(d)
			}
			if p.body.Reader != nil {
				t.Error("there is a second body")
			}
		})
	}
}

func TestPrepareCallRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no id", nil, "no capability given"},
		{"two ids", []string{"a/b", "--id", "a/c"}, "given twice"},
		{"two arguments", []string{"a/b", "c/d"}, "too many arguments"},
		{"two bodies", []string{"a/b", "-d", "x", "--body-file", file}, "one body"},
		{"form and multipart", []string{"a/b", "--form", "a=b", "--multipart-field", "c=d"}, "one body"},
		{"body and form", []string{"a/b", "-d", "x", "--form", "a=b"}, "one body"},
		{"both names of body-file", []string{"a/b", "--body-file", file, "--body-file-path", file}, "exclude each other"},
		{"request and manual", []string{"a/b", "--request", "{}", "-X", "GET"}, "does not mix with --method"},
		{"request and body", []string{"a/b", "--request", "{}", "-d", ""}, "does not mix with --body"},
		{"both requests", []string{"a/b", "--request", "{}", "--request-file", file}, "exclude each other"},
		{"another capability", []string{"a/b", "--request", `{"capability":"a/c","request":{}}`}, `is for capability "a/c"`},
		{"another credential", []string{"a/b", "--credential", "x", "--request", `{"credential":"y","request":{}}`}, "different"},
		{"another timeout", []string{"a/b", "--timeout", "1s", "--request", `{"timeoutMs":5,"request":{}}`}, "different timeouts"},
		{"unknown field", []string{"a/b", "--request", `{"url":"https://evil.test"}`}, "--request"},
		{"unknown field of an envelope", []string{"a/b", "--request", `{"request":{},"host":"evil.test"}`}, "--request"},
		{"duplicate field", []string{"a/b", "--request", `{"path":"/a","path":"/b"}`}, "--request"},
		{"no JSON", []string{"a/b", "--request", "x"}, "--request"},
		{"bad header", []string{"a/b", "-H", "novalue"}, "--header takes"},
		{"header without a name", []string{"a/b", "-H", ": v"}, "--header takes"},
		{"bad query", []string{"a/b", "--path", "/", "--query", "novalue"}, "--query takes"},
		{"bad form", []string{"a/b", "--form", "=v"}, "--form takes"},
		{"bad multipart", []string{"a/b", "--multipart-file", "x"}, "--multipart-file takes"},
		{"no file", []string{"a/b", "--body-file", filepath.Join(dir, "none")}, "no such file"},
		{"a directory", []string{"a/b", "--body-file", dir}, "directory"},
		{"zero timeout", []string{"a/b", "--timeout", "0s"}, "millisecond or more"},
		{"negative timeout", []string{"a/b", "--timeout-ms", "-1"}, "millisecond or more"},
		{"both timeouts", []string{"a/b", "--timeout", "1s", "--timeout-ms", "5"}, "exclude each other"},
		{"a group without a workspace", []string{"a/b", "--group-id", "g"}, "needs --workspace-id"},
		{"a scope that is not the ids'", []string{"a/b", "--scope", "workspace", "--workspace-id", "w", "--group-id", "g"}, "exclude each other"},
		{"a scope without its id", []string{"a/b", "--scope", "workspace"}, "needs --workspace-id"},
		{"global with an id", []string{"a/b", "--scope", "global", "--workspace-id", "w"}, "exclude each other"},
		{"global with an envelope's id", []string{"a/b", "--scope", "global", "--request", `{"workspaceId":"w","request":{}}`}, "is for a workspace"},
		{"another workspace", []string{"a/b", "--workspace-id", "w", "--request", `{"workspaceId":"x","request":{}}`}, "different"},
		{"the variable's group in another workspace", []string{"a/b", "--scope", "group", "--workspace-id", "w2"}, "needs --workspace-id and --group-id"},
		{"an empty workspace", []string{"a/b", "--workspace-id", ""}, "is empty"},
		{"no such workspace", []string{"a/b", "--workspace-id", "../x"}, "cannot be"},
		{"an empty credential", []string{"a/b", "--credential", ""}, "is empty"},
		{"standard input twice", []string{"a/b", "--multipart-file", "a=-", "--multipart-file", "b=-"}, "both read standard input"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var environ []string
			if strings.Contains(c.name, "variable") {
				environ = []string{"AIVAULT_WORKSPACE_ID=w1", "AIVAULT_GROUP_ID=g1"}
			}
			o, _, _ := testOptions(t, strings.NewReader(""), environ...)
			_, err := prepareArgs(t, o, c.args...)
			if api.CodeOf(err) != api.InvalidRequest || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFileBody(t *testing.T) {
	dir := t.TempDir()
	big := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB
	for _, c := range []struct {
		name, content, contentType string
		pipeLength                 int64 // of the same content from standard input
	}{
		{"json", `{"a":[1,2.50]}` + "\n", "application/json", 15},
		{"text", "hello", "", 5},
		{"json and more", "{}{}", "", 4},
		{"duplicate names are JSON still", `{"a":1,"a":2}`, "application/json", 13},
		{"empty", "", "", 0},
		{"binary", "\xff\x00\x01", "", 3},
		{"long binary", big, "", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "body")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, from := range []string{path, "-"} {
				o, _, _ := testOptions(t, strings.NewReader(c.content))
				p, err := prepareArgs(t, o, "a/b", "--body-file", from)
				if err != nil {
					t.Fatal(err)
				}
				length := int64(len(c.content))
				if from == "-" {
					length = c.pipeLength
				}
				got, err := io.ReadAll(p.body.Reader)
				if err != nil || string(got) != c.content || p.body.Length != length {
					t.Errorf("%s: %d bytes (%d announced), %v", from, len(got), p.body.Length, err)
				}
				var want api.Headers
				if c.contentType != "" {
					want = []api.Header{{Name: "content-type", Value: c.contentType}}
				}
				if d := cmp.Diff(want, p.call.Request.Headers); d != "" {
					t.Errorf("%s: %s", from, d)
				}
				if err := p.close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestLongInlineBodyTravelsBeside(t *testing.T) {
	for _, c := range []struct{ name, body, contentType string }{
		{"long JSON", `"` + strings.Repeat("x", maxInline) + `"`, "application/json"},
		{"not UTF-8", "a\xffb", ""},
	} {
		o, _, _ := testOptions(t, nil)
		p, err := prepareArgs(t, o, "a/b", "--body", c.body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(p.body.Reader)
		if err != nil || string(got) != c.body || p.body.Length != int64(len(c.body)) || p.call.Request.Body != nil {
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
		if hasHeader(p.call.Request.Headers, "Content-Type") != (c.contentType != "") {
			t.Errorf("%s: %v", c.name, p.call.Request.Headers)
		}
	}
}

func TestFileThatShrinksIsNotSentShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, _, _ := testOptions(t, nil)
	p, err := prepareArgs(t, o, "a/b", "--body-file", path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := os.Truncate(path, 4); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(p.body.Reader); err == nil {
		t.Errorf("%q was sent as if it were whole", got)
	}
}

func TestFIFOBody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			_, _ = io.WriteString(f, `{"from":"fifo"}`)
			_ = f.Close()
		}
	}()
	o, _, _ := testOptions(t, nil)
	p, err := prepareArgs(t, o, "a/b", "--body-file", path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	got, err := io.ReadAll(p.body.Reader)
	if err != nil || string(got) != `{"from":"fifo"}` || !hasHeader(p.call.Request.Headers, "content-type") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWaitingForAPipeEndsWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	o, _, _ := testOptions(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := o.open(ctx, "body-file", path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	// Let the opener go.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}

func TestMultipartBody(t *testing.T) {
	dir := t.TempDir()
	content := make([]byte, 3<<20)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	nasty := filepath.Join(dir, "a\"\r\nX-Evil: 1;b.png")
	for path, data := range map[string][]byte{filepath.Join(dir, "talk.bin"): content, nasty: []byte("png")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o, _, errs := testOptions(t, strings.NewReader("from a pipe"))
	p, err := prepareArgs(t, o, "a/b", "-H", "Content-Type: text/plain", "-H", "X-Keep: 1",
		"--multipart-field", "model=whisper=1", "--multipart-field", "x\r\nevil\"=\r\n--",
		"--multipart-file", "file="+filepath.Join(dir, "talk.bin"), "--multipart-file", "image="+nasty)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if !strings.Contains(errs.String(), "content-type header is ignored") {
		t.Errorf("no notice: %q", errs)
	}
	headers := p.call.Request.Headers
	if len(headers) != 2 || headers[0].Name != "X-Keep" || headers[1].Name != "content-type" {
		t.Fatalf("headers: %v", headers)
	}
	body, err := io.ReadAll(p.body.Reader)
	if err != nil || int64(len(body)) != p.body.Length {
		t.Fatalf("%d bytes, %d announced, %v", len(body), p.body.Length, err)
	}
	kind, params, err := mime.ParseMediaType(headers[1].Value)
	if err != nil || kind != "multipart/form-data" {
		t.Fatalf("%q: %v", headers[1].Value, err)
	}
	type part struct{ name, file, contentType, text string }
	var got []part
	for r := multipart.NewReader(bytes.NewReader(body), params["boundary"]); ; {
		next, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(next)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(text, content) {
			text = []byte("the file")
		}
		if next.Header.Get("X-Evil") != "" {
			t.Error("a file name made a header")
		}
		_, names, err := mime.ParseMediaType(next.Header.Get("Content-Disposition"))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part{names["name"], names["filename"], next.Header.Get("Content-Type"), string(text)})
	}
	want := []part{
		{"model", "", "", "whisper=1"},
		{"x%0D%0Aevil%22", "", "", "\r\n--"},
		{"file", "talk.bin", "application/octet-stream", "the file"},
		{"image", "a%22%0D%0AX-Evil: 1;b.png", "image/png", "png"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(part{})); d != "" {
		t.Error(d)
	}
}

func TestMultipartFromPipeHasNoLength(t *testing.T) {
	o, _, _ := testOptions(t, strings.NewReader("from a pipe"))
	p, err := prepareArgs(t, o, "a/b", "--multipart-file", "f=-", "--multipart-field", "a=b")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(p.body.Reader)
	if err != nil || p.body.Length != -1 || !bytes.Contains(body, []byte("from a pipe")) || !bytes.Contains(body, []byte(`filename="stdin"`)) {
		t.Errorf("%d announced, %v: %q", p.body.Length, err, body)
	}
}

func FuzzParseEnvelope(f *testing.F) {
	for _, s := range []string{`{}`, `{"request":{"method":"GET"}}`, `{"capability":"a/b","request":{"headers":[{"name":"A","value":"b"}],"body":"x"}}`, `{"path":"/x"}`, `[`, `{"request":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		call, err := parseEnvelope("request", text)
		if (call == nil) == (err == nil) {
			t.Fatalf("%q: %v, %v", text, call, err)
		}
		if err != nil && api.CodeOf(err) != api.InvalidRequest {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	for _, s := range []string{"A: b", "A=b", ":", "=", "A", "A:=b", "A=:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHeader(s)
		if err == nil && (!strings.HasPrefix(strings.TrimSpace(s), h.Name) || !strings.Contains(s, h.Value) || strings.ContainsAny(h.Name, ":=")) {
			t.Fatalf("%q: %+v", s, h)
		}
	})
}
