package egress

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
	"moldable.sh/aivault/internal/secret"
)

func formOf(pairs ...string) Additions {
	var a Additions
	for i := 0; i < len(pairs); i += 2 {
		a.Form = append(a.Form, Field{Name: pairs[i], Value: secret.FromString(pairs[i+1])})
	}
	return a
}

func wholeBody(s string) Body {
	return Body{Reader: strings.NewReader(s), Length: int64(len(s)), Whole: []byte(s)}
}

func TestFormAdditions(t *testing.T) {
	for _, tt := range []struct {
		body, contentType string
		add               Additions
		want              string // "" is a refusal
	}{
		{"", "", formOf("nonce", "1"), "nonce=1"},
		{"", formType, formOf("nonce", "1"), "nonce=1"},
		{"a=1&b=%2B+c", formType, formOf("nonce", "1"), "a=1&b=%2B+c&nonce=1"},
		{"a=1", "Application/X-WWW-Form-urlencoded; charset=UTF-8", formOf("n-x", "a b&c=%"), "a=1&n-x=a+b%26c%3D%25"},
		{"a", formType, formOf("x", "1", "y", "2"), "a&x=1&y=2"},
		{"a=1", "", formOf("nonce", "1"), ""},
		{"{}", "application/json", formOf("nonce", "1"), ""},
		{"", "application/json", formOf("nonce", "1"), ""},
		{"a=1", formType + "; charset=utf-16", formOf("nonce", "1"), ""},
		{"nonce=2", formType, formOf("nonce", "1"), ""},
		{"a=1&NONCE", formType, formOf("nonce", "1"), ""},
		{"a=1&%6eonce=2", formType, formOf("nonce", "1"), ""},
		{"a=1;nonce=2", formType, formOf("nonce", "1"), ""},
		{"a;b", formType, formOf("nonce", "1"), ""},
		{"a=%zz", formType, formOf("nonce", "1"), ""},
		{"a=1&", formType, formOf("nonce", "1"), ""},
		{"a=1\n", formType, formOf("nonce", "1"), ""},
		{"a=1 b", formType, formOf("nonce", "1"), ""},
		{"a=\xc3\xa9", formType, formOf("nonce", "1"), ""},
		{"a=1", formType, formOf("nonce", "1", "Nonce", "2"), ""},
	} {
		var headers []api.Header
		if tt.contentType != "" {
			headers = append(headers, api.Header{Name: "Content-Type", Value: tt.contentType})
		}
		got, err := WireBody(request(t, "POST", "/x", headers...), tt.add, []byte(tt.body))
		if tt.want == "" {
			if api.CodeOf(err) != api.PolicyViolation {
				t.Errorf("%q as %q: %q, %v", tt.body, tt.contentType, got, err)
			}
		} else if err != nil || string(got) != tt.want {
			t.Errorf("%q as %q: %q, %v; want %q", tt.body, tt.contentType, got, err, tt.want)
		}
	}
}

func TestNoFormLeavesTheBody(t *testing.T) {
	for _, body := range []string{"", "{\"a\": 1}", "\x00 &"} {
		b := []byte(body)
		if got, err := WireBody(request(t, "POST", "/x"), Additions{}, b); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%q: %q, %v", body, got, err)
		}
	}
}

// What is joined is read back as what the caller sent, and what was added.
func TestFormRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := url.Values{}
		for range rapid.IntRange(0, 4).Draw(t, "members") {
			values.Add(rapid.StringMatching(`[a-m]{1,4}`).Draw(t, "name"), rapid.String().Draw(t, "value"))
		}
		nonce := rapid.StringMatching(`[ -~]{1,12}`).Draw(t, "nonce")
		r, err := policy.Canonicalise("POST", "/x", []api.Header{{Name: "Content-Type", Value: formType}}, policy.Rules{})
		if err != nil {
			t.Fatal(err)
		}
		body, err := WireBody(r, formOf("nonce", nonce), []byte(values.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		values.Add("nonce", nonce)
		if back, err := url.ParseQuery(string(body)); err != nil || back.Encode() != values.Encode() {
			t.Fatalf("%q is read as %v, %v", body, back, err)
		}
	})
}

// The wire carries the very bytes that WireBody, WireQuery, WirePath and
// WireHost say.
func TestWireIsWhatIsSigned(t *testing.T) {
	versions(t, func(t *testing.T, c *Client, up upstream) {
		for _, tt := range []struct {
			target, body string
			headers      []api.Header
			add          Additions
		}{
			{"/x?b=%20c&a", "", nil, Additions{}},
			{"/x", "", nil, formOf("nonce", "12 3")},
			{"/x?a=1", "p=%41&q=+", []api.Header{{Name: "Content-Type", Value: formType}}, formOf("nonce", "123")},
			{"/x", strings.Repeat("a", 100<<10), []api.Header{{Name: "Content-Type", Value: formType}}, formOf("nonce", "123")},
			{"/x?a=%2B", "", nil, Additions{
				PathPrefix: secret.FromString("/k%2Fy"),
				Query:      []Field{{Name: "t", Value: secret.FromString("1 &%")}, {Name: "signature", Value: secret.FromString("ab+/=")}},
			}},
		} {
			r := request(t, "POST", tt.target, tt.headers...)
			to := up.to
			to.PathPrefix = "/v2"
			body := Body{}
			if tt.body != "" {
				body = wholeBody(tt.body)
			}
			path, err1 := WirePath(to, r, tt.add)
			query, has, err2 := WireQuery(to, r, tt.add)
			host, err3 := WireHost(to)
			sent, err4 := WireBody(r, tt.add, body.Whole)
			if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
				t.Fatal(err1, err2, err3, err4)
			}
			up.Record(true)
			resp, err := c.Send(t.Context(), to, r, tt.add, body)
			if err != nil {
				t.Fatalf("%s: %v", tt.target, err)
			}
			resp.Body.Close()
			if has {
				path += "?" + query
			}
			s := up.Seen()[0]
			if s.Target != path || s.Host != host {
				t.Errorf("signed %s of %s, sent %s of %s", path, host, s.Target, s.Host)
			}
			if s.BodyLength != int64(len(sent)) || !bytes.HasPrefix(sent, s.Body) || s.ContentLength != int64(len(sent)) {
				t.Errorf("signed %d bytes %.40q, sent %d bytes %.40q of %d", len(sent), sent, s.BodyLength, s.Body, s.ContentLength)
			}
			if got := s.Header.Values("Content-Type"); len(tt.add.Form) > 0 && (len(got) != 1 || got[0] != formType) {
				t.Errorf("content type %q", got)
			}
			if got := resp.SentBytes(); got != int64(len(sent)) {
				t.Errorf("counted %d bytes of %d", got, len(sent))
			}
		}
	})
}

// A form that is not in memory cannot have been signed.
func TestFormNeedsTheWholeBody(t *testing.T) {
	up := startAPI(t, nil)
	c := newClient(t, Config{})
	for _, body := range []Body{{Reader: strings.NewReader("a=1"), Length: 3}, {Length: 3}} {
		r := request(t, "POST", "/x", api.Header{Name: "Content-Type", Value: formType})
		_, err := c.Send(t.Context(), up.to, r, formOf("nonce", "1"), body)
		wantCode(t, err, api.Internal, "not in memory")
	}
	r := request(t, "POST", "/x", api.Header{Name: "Content-Type", Value: formType})
	_, err := c.Send(t.Context(), up.to, r, formOf("nonce", "1"), wholeBody("nonce=9"))
	wantCode(t, err, api.PolicyViolation, `"nonce"`)
	if n := len(up.Seen()); n != 0 {
		t.Errorf("%d requests went out", n)
	}
}

func TestWireHost(t *testing.T) {
	for _, tt := range []struct {
		to   Destination
		want string
	}{
		{Destination{Host: "api.example.com"}, "api.example.com"},
		{Destination{Host: "api.example.com:443"}, "api.example.com"},
		{Destination{Host: "api.example.com:8443"}, "api.example.com:8443"},
		{Destination{Host: "api.example.com:80", AllowHTTP: true}, "api.example.com"},
		{Destination{Host: "api.example.com:443", AllowHTTP: true}, "api.example.com:443"},
		{Destination{Host: "[::1]:8443"}, "[::1]:8443"},
	} {
		if got, err := WireHost(tt.to); err != nil || got != tt.want {
			t.Errorf("%+v: %q, %v; want %q", tt.to, got, err, tt.want)
		}
	}
	if _, err := WireHost(Destination{Host: "a b"}); err == nil {
		t.Error("a host that is none has a name")
	}
}
