package egress

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/textproto"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/policy"
)

// authQuery is what the provider of these tests authenticates by.
var authQuery = []string{"key", "X-Goog-Token"}

// authMeaning says whether a careless server could take a parameter for one
// that authenticates or that changes the method: however it is written, and
// up to an index. It shares nothing with policy's own reading.
func authMeaning(name string) bool {
	name, _, _ = strings.Cut(strings.TrimLeft(name, "[ "), "[")
	bare := strings.Map(func(r rune) rune {
		if strings.ContainsRune("_-. $]", r) {
			return -1
		}
		return r
	}, strings.ToLower(name))
	switch bare {
	case "accesstoken", "oauthtoken", "apikey", "key", "xgoogtoken", "httpmethod", "xhttpmethodoverride":
		return true
	case "method":
		return strings.HasPrefix(name, "_")
	}
	return false
}

// disagreement says in what a reading differs from what was judged, so that
// it could be let in where that is not, "" if in nothing.
func disagreement(r *policy.Request, got *reading) string {
	judged := "/" + strings.Join(r.Segments(), "/")
	for _, again := range []string{got.path, undone(got.path)} {
		read := path.Clean(strings.ReplaceAll(again, `\`, "/"))
		if strings.HasSuffix(again, "/") && read != "/" {
			read += "/"
		}
		if read != judged {
			return fmt.Sprintf("path %q, judged was %q", read, judged)
		}
	}
	if got.host != testHost {
		return fmt.Sprintf("host %q", got.host)
	}
	for _, name := range got.params {
		if authMeaning(name) {
			return fmt.Sprintf("parameter %q", name)
		}
	}
	return ""
}

// undone undoes the escapes of a path once more, where all of them are whole.
func undone(p string) string {
	if again, err := url.PathUnescape(p); err == nil {
		return again
	}
	return p
}

// pieces are what paths and queries have been bent with.
var bentPieces = []string{
	".", "..", "...", "%2e", "%2E%2e", ".%2e", "%252e", "%25%32%65", "%c0%ae", "%u002e", "\uff0e", "\u2024", "\u2025", "\u2026", ". ", ".%20", "..%20", "%20.", ".%00", "..;", "..%3b", ".\u200b.",
	"/", "//", "///", "%2f", "%2F", "%252f", "%c0%af", "%e0%80%af", `\`, "%5c", "%255C", "\u2044", "\u2215", "\uff0f", "\uff3c", "\u2571", "\u29f8", "%ef%bc%8f",
	";", ";a=b", "%3b", "?", "??", "%3f", "%253f", "#", "%23", "%2523", "&", "%26", "=", "%3d", "+", "%2b", "%20", " ", "\t", "%09", "\r\n", "%0d%0a", "\n", "%0a", "\x00", "%00", "\x7f", "%7f", "\x1b",
	"@", "%40", ":", "%3a", "a:b@c", "http://evil.test/", "//evil.test", "@evil.test", ":443", "*", "%2a", "~", "%7e", "!", "$", "'", "(", ")", ",", "[", "]", "%5b", "%5d", "{", "}", "|", "^", "`", "\"", "<", ">",
	"%", "%2", "%zz", "%%", "%25", "%2525", "%25zz", "a", "A", "%61", "%41", "é", "e\u0301", "%c3%a9", "%65%cc%81", "\u212a", "K", "\u0130", "\u017f", "ß", "\u00ad", "\ufeff", "\u202e", "\U000e0041", "日本", "🔑", "%f0%9f%94%91", "\xff", "%ff", "%ed%a0%80",
	"access_token", "ACCESS-TOKEN", "access%5ftoken", "acce\u017f\u017f_token", "key", "K\u0065y", "%6bey", "k%65y", "\uff4bey", "\u212aey", "key[]", "key%5b0%5d", "$key", "api_key", "api.key", "a[key]", "keys", "_method", "%5fmethod", "X-Goog-Token", "x_goog%2dtoken", "method", "q",
}

// bentTargets are all pieces in all places, and pairs of them drawn from a
// fixed seed.
func bentTargets(pairs int) []string {
	places := []string{"/%s", "/v1/%s", "/v1/%s/x", "/v1/x%s", "/v1/%sx/y", "/v1/x/%s/", "/%s/v1", "/v1/x?%s", "/v1/x?%s=1", "/v1/x?a=%s", "/v1/x?a=1&%s=2", "/v1/x?a=1%s&b", "%s", "/v1/x/?%s"}
	var all []string
	for _, p := range places {
		for _, s := range bentPieces {
			all = append(all, fmt.Sprintf(p, s))
		}
	}
	rng := rand.New(rand.NewPCG(11, 12))
	for range pairs {
		s := ""
		for range 2 + rng.IntN(3) {
			s += bentPieces[rng.IntN(len(bentPieces))]
		}
		all = append(all, fmt.Sprintf(places[rng.IntN(len(places))], s))
	}
	return all
}

// What policy judged is what every reader finds: the same path once all
// escapes, dots and doubled slashes are dealt with, at the same host, and no
// parameter that would authenticate.
func TestNoReaderDisagrees(t *testing.T) {
	pairs := 30_000
	if testing.Short() {
		pairs = 3_000
	}
	all := readers(t)
	var requests []*policy.Request
	var targets []string
	refused := 0
	for _, target := range bentTargets(pairs) {
		for _, slashes := range []bool{false, true} {
			r, err := policy.Canonicalise("GET", target, nil, policy.Rules{AuthQuery: authQuery, Slashes: slashes})
			if err != nil {
				refused++
				continue
			}
			if !slices.Contains(r.Segments(), "") || strings.HasSuffix(r.Path(), "/") {
				requests, targets = append(requests, r), append(targets, r.Target())
			} else {
				t.Errorf("%q passed with an empty segment", target)
			}
		}
	}
	if len(targets) < pairs/50 || refused < pairs/2 {
		t.Fatalf("%d passed and %d were refused: that compares nothing", len(targets), refused)
	}
	for _, reader := range all {
		got, err := reader.read(targets)
		if err != nil {
			t.Fatalf("%s: %v", reader.name, err)
		}
		turned := 0
		for i, g := range got {
			if g == nil {
				turned++
				continue
			}
			if why := disagreement(requests[i], g); why != "" {
				t.Errorf("%s reads %q otherwise: %s", reader.name, targets[i], why)
			}
		}
		t.Logf("%s agrees about %d targets and takes %d for none; %d were refused before", reader.name, len(targets)-turned, turned, refused)
	}
}

// A sent request is what a raw server received of it.
type received struct {
	target string
	fields []string // "name: value", names in lower case, sorted
}

// rawServers are a server of HTTP/1.1 and one of HTTP/2 that show what they
// receive, each with the client that reaches it.
func rawServers(t testing.TB) map[string]func(*policy.Request) (received, error) {
	t.Helper()
	heads := make(chan received, 1)
	one, _ := rawServer(t, answering(func(head string) string {
		lines := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
		got := received{target: strings.TrimSuffix(strings.TrimPrefix(lines[0], "GET "), " HTTP/1.1")}
		for _, l := range lines[1:] {
			name, value, _ := strings.Cut(l, ":")
			got.fields = append(got.fields, strings.ToLower(name)+": "+strings.TrimPrefix(value, " "))
		}
		heads <- got
		return "HTTP/1.1 204 No Content\r\n\r\n"
	}))
	two := rawFields(t, func(f *http2.MetaHeadersFrame) {
		got := received{target: f.PseudoValue("path"), fields: []string{"host: " + f.PseudoValue("authority")}}
		for _, field := range f.RegularFields() {
			got.fields = append(got.fields, field.Name+": "+field.Value)
		}
		heads <- got
	})
	all := map[string]func(*policy.Request) (received, error){}
	for name, to := range map[string]Destination{"HTTP/1.1": one, "HTTP/2.0": two} {
		c := newClient(t, Config{})
		if name == "HTTP/1.1" {
			h1Only(t, c, to)
		}
		all[name] = func(r *policy.Request) (received, error) {
			resp, err := c.Send(context.Background(), to, r, Additions{}, Body{})
			if err != nil {
				return received{}, err
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			got := <-heads
			slices.Sort(got.fields)
			if i := slices.Index(got.fields, "host: "+to.Host); i >= 0 {
				got.fields = slices.Delete(got.fields, i, i+1)
			} else {
				got.fields = append(got.fields, "no host "+to.Host)
			}
			return got, nil
		}
	}
	return all
}

// judgedAs is what a raw server has to receive of a request.
func judgedAs(r *policy.Request) received {
	want := received{target: r.Target(), fields: []string{"accept-encoding: identity"}}
	for _, h := range r.Headers() {
		want.fields = append(want.fields, strings.ToLower(h.Name)+": "+h.Value)
	}
	slices.Sort(want.fields)
	return want
}

func sameReceived(a, b received) bool {
	return a.target == b.target && slices.Equal(a.fields, b.fields)
}

// Target and header arrive byte for byte as they were judged, in HTTP/1.1 and
// 2, and nothing arrives beside them but what egress itself adds.
func TestTheWireCarriesWhatWasJudged(t *testing.T) {
	servers := rawServers(t)
	names := []string{
		"X-A", "x-b", "ACCEPT", "Content-Type", "X_C", "If-Match", "X-Custom.Name", "X!#$%&'*+-.^`|~", "Prefer", "Idempotency-Key", "Content-Range", "Referer", "Origin", "From", "Date", "X-9",
		"Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Content-Length", "Expect", "Upgrade", "Host", "Authorization", "Cookie", "X-Api-Key", "X-HTTP-Method-Override",
		"Forwarded", "X-Forwarded-Host", "X-Original-URL", "Range", "Accept-Encoding", ":path", "X-A ", " X-A", "X-A\r\nX-B", "X-A:", "", "\u212a", "X-\u00c4",
	}
	values := []string{"1", "", " 1 ", "a\tb", "a  b", "a,b;c=\"d\"", "x\r\nX-Evil: 1", "x\nX-Evil: 1", "x\r", "\x00", "é", "\x7f", "chunked", "X-A", "text/plain; charset=utf-8"}
	sent := 0
	check := func(target string, headers ...api.Header) {
		t.Helper()
		r, err := policy.Canonicalise("GET", target, headers, policy.Rules{AuthQuery: authQuery, CallerHeaders: []string{"X_C"}})
		if err != nil {
			return
		}
		sent++
		for version, send := range servers {
			got, err := send(r)
			if want := judgedAs(r); err != nil || !sameReceived(got, want) {
				t.Errorf("%s: judged %q, received %q, %v", version, want, got, err)
			}
			for _, f := range got.fields {
				if name, _, _ := strings.Cut(f, ":"); name == "x-evil" || framing(textproto.CanonicalMIMEHeaderKey(name)) && name != "accept-encoding" {
					t.Errorf("%s: received %q", version, f)
				}
			}
		}
	}
	for i, name := range names {
		for j, value := range values {
			check("/v1/x?a=b", api.Header{Name: name, Value: value}, api.Header{Name: names[(i+j)%len(names)], Value: values[(i*j)%len(values)]})
			check("/v1/x", api.Header{Name: name, Value: value})
		}
	}
	for i, target := range bentTargets(0) {
		if !testing.Short() || i%4 == 0 {
			check(target)
		}
	}
	if sent < 300 {
		t.Fatalf("%d requests were sent: that compares nothing", sent)
	}
	t.Logf("%d requests arrived as they were judged", sent)
}

// FuzzWire: whatever a caller writes, a raw server receives what was judged,
// byte for byte, and no reader of it finds another path, another host, or a
// parameter that authenticates.
func FuzzWire(f *testing.F) {
	for i, target := range bentTargets(40) {
		if i%7 == 0 {
			f.Add(target, "X-A", "v", i%2 == 0)
		}
	}
	f.Add("/v1/x", "Transfer_Encoding", "chunked", false)
	f.Add("/a%2Fb", "X-A", "a\r\nX-B: c", true)
	servers, all := rawServers(f), readers(f)
	f.Fuzz(func(t *testing.T, target, name, value string, slashes bool) {
		r, err := policy.Canonicalise("GET", target, []api.Header{{Name: name, Value: value}}, policy.Rules{AuthQuery: authQuery, Slashes: slashes})
		if err != nil {
			return
		}
		for version, send := range servers {
			got, err := send(r)
			if want := judgedAs(r); err != nil || !sameReceived(got, want) {
				t.Fatalf("%s: judged %q, received %q, %v", version, want, got, err)
			}
		}
		for _, reader := range all {
			got, err := reader.read([]string{r.Target()})
			if err != nil {
				t.Fatalf("%s: %v", reader.name, err)
			}
			if got[0] == nil {
				continue
			}
			if why := disagreement(r, got[0]); why != "" {
				t.Fatalf("%s reads %q otherwise: %s", reader.name, r.Target(), why)
			}
		}
	})
}
