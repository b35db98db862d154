package oauth

import (
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

// What an endpoint may say: a token that can be sent, or an error in words of
// our own.
func FuzzTokenAnswer(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"at","expires_in":3600,"refresh_token":"rt","scope":"a b","token_type":"Bearer"}`,
		`{"access_token":"at","expires_in":"1e9","scope":["a",1]}`, `{"error":"invalid_grant"}`, `{"error":{"a":"b"}}`,
		"access_token=at&expires_in=5&scope=a%2Cb", "error=x", "", "{", `{"data":{"token":"x"}}`, "a=%zz",
	} {
		f.Add(200, "application/json", body)
		f.Add(400, "application/x-www-form-urlencoded", body)
		f.Add(200, "text/plain", body)
	}
	at := time.Unix(1_780_000_000, 0)
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		w := want("refresh_token", map[string]string{"oauth": "s"}, nil)
		a := &asking{want: &w, now: at, have: &material{values: map[string]secret.Value{"refresh_token": secret.FromString("sent")}}}
		said := func() *answer {
			return &answer{host: "h.test", status: status, kind: kind, body: []byte(body), askedAt: at}
		}
		err := said().failure(&w)
		if err == nil {
			var got *obtained
			if got, err = readToken(a, said(), "access_token"); err == nil {
				for name, v := range got.fields {
					if why := badToken(v.Expose()); why != "" {
						t.Fatalf("%s %s", name, why)
					}
				}
				if got.fields["access_token"].IsZero() || !got.endsAt.IsZero() && !got.endsAt.After(at) {
					t.Fatal("no token, or one that has ended")
				}
				keepRefreshToken(a, got)
				if got.rotated == got.kept {
					t.Fatal("it is not said what became of the refresh token")
				}
			}
		}
		if _, err := readToken(a, said(), "/data/token"); err != nil && api.CodeOf(err) != api.OAuthRefreshFailed {
			t.Fatal(err)
		}
		if err == nil {
			return
		}
		e := api.AsError(err)
		if e.Code != api.OAuthRefreshFailed {
			t.Fatal(err)
		}
		text := e.Message + e.Hint
		for i := 0; i+12 <= len(body); i++ {
			if piece := body[i : i+12]; strings.Contains(text, piece) && strings.Trim(piece, "abcdefghijklmnopqrstuvwxyz_") != "" && !strings.Contains("h.test gave no token that could be used: its answer (status 200) is neither a JSON object nor a form, and none is followed aivault oauth login acme holds more than printable ASCII access token that is missing", piece) {
				t.Fatalf("%q repeats %q", text, piece)
			}
		}
	})
}

// What is sent means what it was made of.
func FuzzBodies(f *testing.F) {
	f.Add("client_secret", "a b+&=%\u00e9\"\\")
	f.Add("x", "\x00\x1f")
	f.Fuzz(func(t *testing.T, name, value string) {
		list := []param{{"grant_type", []byte("refresh_token")}, {name, []byte(value)}}
		form, err := url.ParseQuery(string(formBody(list)))
		if err != nil || name != "grant_type" && form.Get(name) != value || form.Get("grant_type") != "refresh_token" {
			t.Fatalf("%q: %v, %v", value, form, err)
		}
		if !utf8.ValidString(name) || !utf8.ValidString(value) || name == "grant_type" {
			return
		}
		var object map[string]string
		if err := strictjson.Unmarshal(jsonBody(list), &object); err != nil || object[name] != value {
			t.Fatalf("%q: %v, %v", value, object, err)
		}
	})
}
