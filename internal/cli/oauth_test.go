package cli

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
)

// ask sends one request to a callback, with a Host of its own where there is one.
func askCallback(t *testing.T, c *callback, method, path, host string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+c.host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		r.Host = host
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func listening(t *testing.T, host string) *callback {
	t.Helper()
	c, err := listenForBrowser(host, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// The page takes one request, on its own host and path, and shows nothing of
// what came.
func TestCallback(t *testing.T) {
	c := listening(t, "127.0.0.1")
	if c.uri != "http://"+c.host+"/callback" || !strings.HasPrefix(c.host, "127.0.0.1:") {
		t.Errorf("%q, %q", c.uri, c.host)
	}
	_, port, _ := net.SplitHostPort(c.host)
	const query = "?code=the-code&state=the-state"
	for _, try := range []struct {
		method, path, host string
		status             int
	}{
		{"GET", "/callback" + query, "localhost:" + port, 421},
		{"GET", "/callback" + query, "evil.test", 421},
		{"GET", "/callback" + query, "127.0.0.1", 421},
		{"GET", "/callback" + query, "127.0.0.1:1", 421},
		{"GET", "/" + query, "", 404},
		{"GET", "/callback/" + query, "", 404},
		{"GET", "/Callback" + query, "", 404},
		{"GET", "/%63allback" + query, "", 404},
		{"GET", "//callback" + query, "", 404},
		{"POST", "/callback" + query, "", 405},
		{"OPTIONS", "/callback" + query, "", 405},
		{"HEAD", "/callback" + query, "", 405},
	} {
		status, head, body := askCallback(t, c, try.method, try.path, try.host)
		if status != try.status || strings.Contains(body, "the-") || head.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s at %q: %d %q", try.method, try.path, try.host, status, body)
		}
	}
	select {
	case a := <-c.got:
		t.Fatalf("what was refused was taken: %+v", a)
	default:
	}
	status, head, body := askCallback(t, c, "GET", "/callback"+query+"&error_description=%3Cscript%3E", "")
	if status != 200 || body != callbackPage || strings.Contains(body, "script") || !strings.HasPrefix(head.Get("Content-Security-Policy"), "default-src 'none'") || head.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("%d %v %q", status, head, body)
	}
	if status, _, _ := askCallback(t, c, "GET", "/callback?code=another&state=the-state", ""); status != 410 {
		t.Errorf("a second request: %d", status)
	}
	a, err := c.wait(t.Context(), time.Now().Add(time.Minute), time.Now)
	if err != nil || string(a.Code.Expose()) != "the-code" || string(a.State.Expose()) != "the-state" || a.RedirectURI != c.uri || a.Error != "" {
		t.Errorf("%v, %+v", err, a)
	}
	c.close()
	if conn, err := net.Dial("tcp", c.host); err == nil {
		_ = conn.Close()
		t.Error("it listens still")
	}
}

// What is there twice was not sent by the provider.
func TestCallbackTakesEachParameterOnce(t *testing.T) {
	for query, want := range map[string]string{
		"?code=a&state=b":            "a b ",
		"?code=a&code=c&state=b":     " b ",
		"?code=a&state=b&state=b":    "a  ",
		"?error=a&error=b&state=b":   " b ",
		"?error=denied&state=b":      " b denied",
		"?code=a;state=b":            "  ",
		"?code=%zz&state=b":          "  ",
		"":                           "  ",
		"?CODE=a&state=b#code=other": " b ",
	} {
		c := listening(t, "127.0.0.1")
		_, _, _ = askCallback(t, c, "GET", "/callback"+query, "")
		a, err := c.wait(t.Context(), time.Now().Add(time.Minute), time.Now)
		if got := string(a.Code.Expose()) + " " + string(a.State.Expose()) + " " + a.Error; err != nil || got != want {
			t.Errorf("%q: %q, want %q (%v)", query, got, want, err)
		}
	}
}

// Of many at once one gets through.
func TestCallbackOnce(t *testing.T) {
	c := listening(t, "127.0.0.1")
	var taken atomic.Int32
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if c.take("code="+strconv.Itoa(i), c.uri) {
				taken.Add(1)
			}
		})
	}
	all.Wait()
	if taken.Load() != 1 {
		t.Errorf("%d were taken", taken.Load())
	}
}

// Where the provider wants localhost, nobody else can answer for ::1.
func TestCallbackOnLocalhost(t *testing.T) {
	c := listening(t, "localhost")
	if !strings.HasPrefix(c.uri, "http://localhost:") {
		t.Errorf("%q", c.uri)
	}
	if status, _, _ := askCallback(t, c, "GET", "/callback?code=a", "127.0.0.1:1"); status != 421 {
		t.Errorf("%d", status)
	}
	_, port, _ := net.SplitHostPort(c.host)
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return // there is no IPv6 here
	}
	_ = probe.Close()
	if l, err := net.Listen("tcp6", "[::1]:"+port); err == nil {
		_ = l.Close()
		t.Error("another could listen on ::1")
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenForBrowser("localhost", n); api.CodeOf(err) != api.InvalidRequest {
		t.Errorf("a port that is taken: %v", err)
	}
}

// A login that is left open ends, and so does one that is given up.
func TestCallbackWaitsNoLonger(t *testing.T) {
	c := listening(t, "127.0.0.1")
	now := time.Now()
	if _, err := c.wait(t.Context(), now, func() time.Time { return now }); api.CodeOf(err) != api.UpstreamTimeout {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.wait(ctx, now.Add(time.Hour), func() time.Time { return now }); err != context.Canceled {
		t.Error(err)
	}
}

func TestOAuthUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"oauth", "login"}, "error: no provider given\nhint: aivault help oauth login\n"},
		{[]string{"oauth", "login", "gitlab", "--client-id", ""}, "error: --client-id is empty\nhint: aivault help oauth login\n"},
		{[]string{"oauth", "login", "gitlab", "--public-client"}, "error: no --client-id given\nhint: aivault help oauth login\n"},
		{[]string{"oauth", "login", "gitlab", "--client-secret-stdin"}, "error: no --client-id given\nhint: aivault help oauth login\n"},
		{[]string{"oauth", "login", "gitlab", "--client-id", "a", "--public-client", "--client-secret-stdin"}, "error: --client-secret-stdin and --public-client exclude each other\nhint: aivault help oauth login\n"},
		{[]string{"oauth", "login", "gitlab", "--client-id", "a", "--client-secret-stdin"}, "error: standard input is empty\nhint: aivault help oauth login\n"},
		{[]string{"oauth", "login", "gitlab", "--device", "--port", "80"}, "error: --device and --port exclude each other\nhint: aivault help oauth login\n"},
		{[]string{"oauth", "login", "gitlab", "--device", "--no-browser"}, "error: --device and --no-browser exclude each other\nhint: aivault help oauth login\n"},
		{[]string{"oauth", "login", "gitlab", "--port", "0"}, "error: --port must lie between 1 and 65535\nhint: aivault help oauth login\n"},
		{[]string{"oauth", "login", "gitlab", "--port", "65536"}, "error: --port must lie between 1 and 65535\nhint: aivault help oauth login\n"},
		{[]string{"oauth", "login", "gitlab", "--oauth-scope", ""}, "error: --oauth-scope is empty\nhint: aivault help oauth login\n"},
		{[]string{"oauth", "login", "gitlab", "--scope", "api"}, "error: --scope cannot be \"api\": it takes global, workspace or group\nhint: aivault help oauth login\n"},
		{[]string{"oauth", "setup", "gitlab", "--client-id", "a"}, "error: no --redirect-uri given\nhint: aivault help oauth setup\n"},
		{[]string{"oauth", "setup", "gitlab", "--redirect-uri", "a"}, "error: no --client-id given\nhint: aivault help oauth setup\n"},
		{[]string{"oauth", "logout"}, "error: no login given\nhint: aivault help oauth logout\n"},
		{[]string{"oauth", "status", "gitlab"}, "error: aivault oauth status takes no arguments, only flags\nhint: aivault help oauth status\n"},
	} {
		o, out, errs := testOptions(t, strings.NewReader(""), "AIVAULTD_AUTOSTART=0")
		if exit := o.Run(t.Context(), c.args); exit != 2 || out.Len() != 0 || errs.String() != c.want {
			t.Errorf("%v: exit %d, %q, %q", c.args, exit, out, errs)
		}
	}
}
