package broker_test

import (
	"compress/gzip"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"moldable.sh/aivault/internal/aivaulttest"
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/vault"
)

const newToken = "tok-THAT-NOBODY-HAS-SEEN-BEFORE"

// keys is a provider of one's own whose answers carry new tokens.
func keys(t *testing.T, answer http.HandlerFunc) *aivaulttest.Aivault {
	v := start(t, aivaulttest.Options{Handler: answer})
	acme(t, v, "acme-key-0123456789", bearer())
	capability(t, v, api.CapabilityCreate{ID: "acme/keys", Methods: []string{"GET", "POST", "HEAD"}, Paths: []string{"/keys"}, IssuesToken: []string{"/key", "/data/*/key", "/error/key"}})
	return v
}

// What an answer brings of new tokens is in none of its forms the caller's.
func TestNewTokensNeverReachTheCaller(t *testing.T) {
	bodies := map[string]struct{ body, want string }{
		"one":            {`{"id":1,"key":"` + newToken + `"}`, `{"id":1,"key":"[redacted]"}`},
		"a list":         {`{"data":[{"key":"` + newToken + `"},{"key":{"a":["` + newToken + `"]},"id":2}]}`, `{"data":[{"key":"[redacted]"},{"key":"[redacted]","id":2}]}`},
		"spelt in part":  {`{"k\u0065y":"` + newToken + `","KEY":"` + newToken + `"}`, `{"k\u0065y":"[redacted]","KEY":"[redacted]"}`},
		"an error":       {`{"error":{"key":"` + newToken + `","message":"no"}}`, `{"error":{"key":"[redacted]","message":"no"}}`},
		"what is echoed": {`{"key":"` + newToken + `","sent":"acme-key-0123456789"}`, `{"key":"[redacted]","sent":"[redacted]"}`},
		"nothing new":    {`{"key":null}`, `{"key":null}`},
	}
	v := keys(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Location", "/keys/"+newToken)
		q := r.URL.Query()
		status, _ := strconv.Atoi(q.Get("status"))
		if q.Get("gzip") != "" {
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(status)
			z := gzip.NewWriter(w)
			fmt.Fprint(z, bodies[q.Get("body")].body)
			z.Close()
			return
		}
		w.WriteHeader(status)
		for _, c := range bodies[q.Get("body")].body { // in pieces
			fmt.Fprintf(w, "%c", c)
			if c == 'T' {
				w.(http.Flusher).Flush()
			}
		}
	})
	for name, b := range bodies {
		for _, status := range []string{"200", "201", "400", "500"} {
			for _, more := range []string{"", "&gzip=1"} {
				got := mustInvoke(t, v, get("acme/keys", "/keys?status="+status+"&body="+strings.ReplaceAll(name, " ", "%20")+more))
				if got != b.want {
					t.Errorf("%s, status %s%s: %s, want %s", name, status, more, got, b.want)
				}
			}
		}
	}
	noneOnDisk(t, v, newToken)
}

// An answer that cannot be looked through is withheld, whatever its status,
// before its first byte.
func TestAnswersThatAreNoJSONAreWithheld(t *testing.T) {
	v := keys(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		for _, kind := range q["type"] {
			w.Header().Add("Content-Type", kind)
		}
		if q.Get("type") == "" {
			w.Header()["Content-Type"] = nil
		}
		if q.Get("range") != "" {
			w.Header().Set("Content-Range", "bytes 0-9/100")
		}
		status, _ := strconv.Atoi(q.Get("status"))
		w.WriteHeader(status)
		if r.Method != "HEAD" && q.Get("empty") == "" {
			fmt.Fprint(w, q.Get("body"))
		}
	})
	for _, q := range []string{
		"status=200&type=text/plain&body=" + newToken, "status=404&type=text/html&body=" + newToken, "status=200&body=" + newToken, "status=200&type=text/plain&body={%22key%22:%22" + newToken + "%22}",
		"status=200&type=application/x-ndjson&body={}", "status=200&type=application/json&type=text/plain&body={%22a%22:1}", "status=206&type=application/json&body=%22" + newToken + "%22",
		"status=200&range=1&type=application/json&body=%22" + newToken + "%22", "status=200&type=application/json%3Bcharset=iso-8859-1&body={}", "status=200&type=application/octet-stream&body=%00",
	} {
		err := mustRefuse(t, v, get("acme/keys", "/keys?"+q), api.PolicyViolation)
		if !strings.Contains(err.Message, "acme/keys") || strings.Contains(err.Message, newToken) || err.Hint != "aivault capability describe acme/keys" {
			t.Errorf("%s: %+v", q, err)
		}
	}
	// Labelled as JSON, and none: what came before it is clean.
	for _, body := range []string{"key=" + newToken, "{%22key%22:%22" + newToken + "%22}%20{%22key%22:%22" + newToken + "%22}", "[%22x%22", "{%22key%22:%22" + newToken} {
		_, out, err := v.Invoke(get("acme/keys", "/keys?status=200&type=application/json&body="+body))
		if api.CodeOf(err) != api.PolicyViolation && api.CodeOf(err) != api.UpstreamUnreachable || strings.Contains(out, newToken[:8]) {
			t.Errorf("%s: %q %v", body, out, err)
		}
	}
	for _, q := range []string{"status=204", "status=200&empty=1&type=text/plain", "status=202&empty=1&type=application/json", "status=304"} {
		if out := mustInvoke(t, v, get("acme/keys", "/keys?"+q)); out != "" {
			t.Errorf("%s: %q", q, out)
		}
	}
	head := get("acme/keys", "/keys?status=200&type=text/plain")
	head.Request.Method = "HEAD"
	mustInvoke(t, v, head)
	// The neighbour that is not marked answers as ever.
	if out := mustInvoke(t, v, get("acme/all", "/keys?status=200&type=text/plain&body=x")); out != "x" {
		t.Error(out)
	}
	noneOnDisk(t, v, newToken)
}

// A policy that removes fields does so beside it.
func TestNewTokensBesideAPolicy(t *testing.T) {
	v := keys(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"key":"`+newToken+`","mail":"a@b","data":[{"mail":"c@d","key":"`+newToken+`"}]}`)
	})
	if _, err := v.Admin.SetPolicy(background, aivaulttest.Operator(), api.PolicyChange{Capability: "acme/keys", ResponseBlock: []string{"mail"}}); err != nil {
		t.Fatal(err)
	}
	if out := mustInvoke(t, v, get("acme/keys", "/keys")); out != `{"key":"[redacted]","data":[{"key":"[redacted]"}]}` {
		t.Error(out)
	}
}

// A marked capability of the registry, and a set that it is in, say so.
func TestDescribeSaysWhatIsRemoved(t *testing.T) {
	v := keys(t, nil)
	for id, want := range map[string][]string{
		"acme/keys": {"/key", "/data/*/key", "/error/key"}, "acme/all": nil, "okta/users-read": nil, "github/repos-read": nil,
	} {
		d, err := v.Broker.Capability(background, aivaulttest.Operator(), id)
		if err != nil || !slices.Equal(d.IssuesToken, want) {
			t.Errorf("%s: %q %v", id, d.IssuesToken, err)
		}
	}
	marked := 0
	for _, p := range v.Registry.Providers() {
		provider := v.Registry.Provider(p)
		for _, c := range provider.Capabilities {
			d, err := v.Broker.Capability(background, aivaulttest.Operator(), c.ID)
			if err != nil || d.Reason == "broken" || !slices.Equal(d.IssuesToken, c.IssuesToken) {
				t.Errorf("%s: %v %v", c.ID, d.IssuesToken, err)
			}
			marked += len(c.IssuesToken)
		}
	}
	if marked < 50 {
		t.Error(marked)
	}
}

// An entry that came about in another way is broken rather than unmarked.
func TestABrokenMarkBreaksTheCapability(t *testing.T) {
	v := keys(t, nil)
	tamper(t, v, func(tx *vault.Tx) error {
		tx.Record.Event = audit.CapabilityCreated
		for i := range tx.State.Capabilities {
			if c := &tx.State.Capabilities[i]; c.ID == "acme/keys" {
				c.IssuesToken = []string{"key"}
			}
		}
		return nil
	})
	mustRefuse(t, v, get("acme/keys", "/keys"), api.PolicyViolation)
}
