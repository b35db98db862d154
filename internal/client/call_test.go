package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/standin"
)

func TestACallFromEndToEnd(t *testing.T) {
	both(t, func(t *testing.T, c *Client) {
		ctx := t.Context()
		upstream := acme(t, c, nil)
		want := strings.ReplaceAll(key, "\u00e4", "a")
		a, err := c.Proxy(ctx, api.Call{Capability: "acme/all", Request: api.Request{Method: "GET", Path: "/echo?x=1"}}, Body{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(a.Body)
		if err != nil || a.Body.Close() != nil || a.Status != 200 {
			t.Fatalf("%d %s %v", a.Status, b, err)
		}
		if a.Planned.Capability != "acme/all" || a.Planned.Method != "GET" || !strings.HasSuffix(a.Planned.URL, "/echo?x=1") {
			t.Errorf("planned %+v", a.Planned)
		}
		if a.Header.Get(api.HeaderPlanned) != "" || a.Header.Get(api.HeaderAPI) != "" || a.Header.Get("Content-Type") == "" {
			t.Errorf("header %v", a.Header)
		}
		seen := upstream.Seen()
		if len(seen) != 1 || seen[0].Header.Get("Authorization") != "Bearer "+want {
			t.Errorf("the upstream saw %+v", seen)
		}
		if bytes.Contains(b, []byte("very-secret")) {
			t.Errorf("the answer repeats the secret: %s", b)
		}

		body := bytes.Repeat([]byte("0123456789abcdef"), 2<<20/16)
		for _, length := range []int64{int64(len(body)), -1} {
			a, err := c.Proxy(ctx, api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/upload"}}, Body{bytes.NewReader(body), length})
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, a.Body)
			a.Body.Close()
			sum := sha256.Sum256(body)
			last := upstream.Seen()[len(upstream.Seen())-1]
			if a.Status != 200 || last.BodyLength != int64(len(body)) || last.BodySHA256 != hex.EncodeToString(sum[:]) {
				t.Errorf("length %d: %d, %d bytes arrived", length, a.Status, last.BodyLength)
			}
		}

		a, err = c.Proxy(ctx, api.Call{Capability: "acme/all", Request: api.Request{Method: "GET", Path: "/bytes/1000000"}}, Body{})
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, a.Body)
		if n != 1000000 || err != nil || a.Body.Close() != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	})
}

func TestEveryOperatorRequest(t *testing.T) {
	both(t, func(t *testing.T, c *Client) {
		ctx := t.Context()
		check := func(what string, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		changed, err := c.Init(ctx, api.KeyOptions{Provider: "file"})
		check("init", err)
		if changed.State != "unlocked" {
			t.Errorf("init: %+v", changed)
		}
		acme(t, c, nil)
		list, err := c.Secrets(ctx)
		check("secrets", err)
		if len(list.Secrets) != 1 || list.Secrets[0].Name != "ACME_KEY" {
			t.Errorf("secrets: %+v", list)
		}
		s, err := c.UpdateSecret(ctx, "ACME_KEY", api.SecretUpdate{NewName: "ACME.KEY", Aliases: []string{"a-1"}})
		check("update", err)
		if s.Name != "ACME.KEY" || len(s.Aliases) != 1 {
			t.Errorf("update: %+v", s)
		}
		s, err = c.RotateSecret(ctx, "a-1", api.SecretRotate{Value: secret.FromString("sk-another-one")})
		check("rotate", err)
		if s.Version != 2 {
			t.Errorf("rotate: %+v", s)
		}
		creds, err := c.Credentials(ctx)
		check("credentials", err)
		if len(creds.Credentials) != 1 {
			t.Errorf("credentials: %+v", creds)
		}
		detail, err := c.Capability(ctx, "acme/all")
		check("capability", err)
		if detail.Capability != "acme/all" {
			t.Errorf("capability: %+v", detail)
		}
		all, err := c.Capabilities(ctx)
		check("capabilities", err)
		if len(all.Capabilities) == 0 || len(all.Available) == 0 {
			t.Errorf("capabilities: %+v", all)
		}
		_, err = c.RotateMaster(ctx, api.KeyOptions{Provider: "file"})
		check("rotate-master", err)
		changed, err = c.Lock(ctx)
		check("lock", err)
		if _, err := c.Secrets(ctx); api.CodeOf(err) != api.VaultLocked || changed.State != "locked" {
			t.Errorf("locked: %+v %v", changed, err)
		}
		_, err = c.Unlock(ctx, api.Unlock{})
		check("unlock", err)
		_, err = c.DeleteCapability(ctx, "acme/all")
		check("delete capability", err)
		_, err = c.DeleteCredential(ctx, "acme")
		check("delete credential", err)
		gone, err := c.DeleteSecret(ctx, s.ID)
		check("delete secret", err)
		if gone.Secret.ID != s.ID {
			t.Errorf("delete: %+v", gone)
		}
		for _, ref := range []string{"..", ".", "a/b", "a?b=c", "a#b", "%2e%2e", " ", "x/rotate"} {
			if _, err := c.DeleteSecret(ctx, ref); api.CodeOf(err) != api.SecretNotFound && api.CodeOf(err) != api.InvalidRequest {
				t.Errorf("delete %q: %v", ref, err)
			}
		}
		audit, err := c.Audit(ctx, audit.Query{Limit: 1000})
		check("audit", err)
		if len(audit.Records) < 10 {
			t.Errorf("audit: %d records", len(audit.Records))
		}
		st, err := c.Status(ctx)
		check("status", err)
		if st.Vault.State != "unlocked" || !st.Caller.Operator || (st.Daemon == nil) != c.InProcess() {
			t.Errorf("status: %+v", st)
		}
	})
}

func TestAnAnswerThatBreaksOff(t *testing.T) {
	both(t, func(t *testing.T, c *Client) {
		cut, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}))
		if err != nil {
			t.Fatal(err)
		}
		acme(t, c, cut)
		a, err := c.Proxy(t.Context(), api.Call{Capability: "acme/all", Request: api.Request{Method: "GET", Path: "/x"}}, Body{})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		b, err := io.ReadAll(a.Body)
		var e *api.Error
		if !errors.As(err, &e) || e.Code != api.UpstreamUnreachable || e.Message == "" {
			t.Errorf("%q, then %v", b, err)
		}
		if _, again := a.Body.Read(make([]byte, 1)); again != err {
			t.Errorf("read again: %v", again)
		}
	})
}

func TestACancelledCallEnds(t *testing.T) {
	both(t, func(t *testing.T, c *Client) {
		ended := make(chan struct{}, 1)
		slow, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "first")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			ended <- struct{}{}
		}))
		if err != nil {
			t.Fatal(err)
		}
		acme(t, c, slow)
		ctx, cancel := context.WithCancel(t.Context())
		a, err := c.Proxy(ctx, api.Call{Capability: "acme/all", Request: api.Request{Method: "GET", Path: "/x"}}, Body{})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		if _, err := io.ReadFull(a.Body, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := io.ReadAll(a.Body); !errors.Is(err, context.Canceled) {
			t.Errorf("after the cancel: %v", err)
		}
		<-ended
	})
}

func TestEncodeKeepsSecretsWholeAndOtherFieldsRight(t *testing.T) {
	v := "a\"b\\c\x00\x1f\n\u00e4\u2028</script>\U0001f511"
	b, err := encode(api.SecretCreate{Name: "N\"", Value: secret.FromString(v), Aliases: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	var back api.SecretCreate
	if err := decodeInto(b, &back); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if string(back.Value.Expose()) != v || back.Name != "N\"" || len(back.Aliases) != 1 || back.Scope != "" {
		t.Errorf("%s became %+v", b, back)
	}
	for _, r := range []any{api.Unlock{}, api.KeyOptions{}, api.Call{Capability: "c"}, api.SecretUpdate{ClearAliases: true}, api.CredentialCreate{}} {
		b, err := encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := marshal(r); string(b) != want {
			t.Errorf("%T: %s, want %s", r, b, want)
		}
	}
	if _, err := encode(api.SecretRotate{Value: secret.FromString("\xff")}); api.CodeOf(err) != api.InvalidRequest || strings.Contains(fmt.Sprint(err), "\xff") {
		t.Errorf("bytes that are no text: %v", err)
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("name", "value")
	f.Add("\"", "\\\x00\u2028")
	f.Fuzz(func(t *testing.T, name, value string) {
		b, err := encode(api.SecretCreate{Name: name, Value: secret.FromString(value)})
		if err != nil {
			return
		}
		var back api.SecretCreate
		if err := decodeInto(b, &back); err != nil || back.Name != name || string(back.Value.Expose()) != value {
			t.Errorf("%q %q became %s: %v", name, value, b, err)
		}
		many := api.SecretImport{Scope: name, Entries: []api.SecretEntry{{Name: value}, {Name: name, Value: secret.FromString(value)}}}
		var all api.SecretImport
		if b, err = encode(many); err != nil {
			return
		}
		if err := decodeInto(b, &all); err != nil || all.Scope != name || len(all.Entries) != 2 || all.Entries[0].Name != value || string(all.Entries[1].Value.Expose()) != value {
			t.Errorf("%q %q became %s: %v", name, value, b, err)
		}
	})
}

func TestTheRequestIsWiped(t *testing.T) {
	b, err := encode(api.SecretRotate{Value: secret.FromString("sk-wipe-me")})
	if err != nil {
		t.Fatal(err)
	}
	w := &wiped{b: b}
	if _, err := io.ReadAll(w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if bytes.Contains(b[:cap(b)], []byte("wipe")) {
		t.Errorf("%q", b)
	}
	if _, err := w.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

// The daemon never opens what a caller names: files are opened here.
func TestABodyFromAFile(t *testing.T) {
	both(t, func(t *testing.T, c *Client) {
		upstream := acme(t, c, nil)
		f, err := os.CreateTemp(t.TempDir(), "b")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString("content"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		a, err := c.Proxy(t.Context(), api.Call{Capability: "acme/all", Request: api.Request{Method: "POST", Path: "/x"}}, Body{f, 7})
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if seen := upstream.Seen(); len(seen) != 1 || string(seen[0].Body) != "content" {
			t.Errorf("%+v", seen)
		}
	})
}
