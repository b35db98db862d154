package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"moldable.sh/aivault/internal/standin"
)

// The addresses of the providers at which these tests log in: what their
// documentation calls them, and what a stand-in does.
var idpPaths = map[string]string{
	"/oauth2/authorize": "/authorize", "/oauth2/token": "/token", // Dropbox
	"/oauth/authorize": "/authorize", "/oauth/token": "/token", "/oauth/authorize_device": "/device", "/oauth/revoke": "/revoke", // GitLab
	"/o/oauth2/v2/auth": "/authorize", "/device/code": "/device", // Google
}

// idpHosts are the hosts of these providers.
var idpHosts = []string{"www.dropbox.com", "api.dropboxapi.com", "content.dropboxapi.com", "gitlab.com", "accounts.google.com", "oauth2.googleapis.com", "www.googleapis.com"}

// cmdIDP starts a stand-in for identity providers and their APIs.
func cmdIDP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: idp")
	}
	idp := standin.NewIDP(standin.IDPOptions{Paths: idpPaths, Account: "alice@example.com", Interval: 1})
	api, err := standin.Start(idp, idpHosts...)
	ts.Check(err)
	ts.Defer(api.Close)
	apis(ts).api, apis(ts).idp = api, idp
	ca := ts.MkAbs("standin-ca.pem")
	ts.Check(os.WriteFile(ca, api.CAPEM(), 0o600))
	ts.Setenv("STANDIN_PORT", strconv.Itoa(int(api.Addr().Port())))
	ts.Setenv("AIVAULT_DEV_RESOLVE", devResolve(api, idpHosts))
	ts.Setenv("AIVAULT_DEV_CA_CERT_PATH", ca)
}

func devResolve(api *standin.API, hosts []string) string {
	var pairs []string
	for _, host := range hosts {
		pairs = append(pairs, host+"="+api.Addr().String())
	}
	return strings.Join(pairs, ",")
}

var pageURL = regexp.MustCompile(`(?m)^https://\S+$`)

// cmdBrowse waits until FILE shows the address of a page of consent, and does
// there as a person and their browser do. What comes back is in the file "page".
func cmdBrowse(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: browse FILE yes|no|forged|error|double|elsewhere|twice")
	}
	var page string
	for deadline := time.Now().Add(20 * time.Second); page == ""; time.Sleep(5 * time.Millisecond) {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		page = pageURL.FindString(string(data))
		if page == "" && time.Now().After(deadline) {
			ts.Fatalf("%s shows no page: %q, %v", args[0], data, err)
		}
	}
	text, err := browse(page, apis(ts).api.Addr().String(), args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("page"), []byte(strings.ReplaceAll(text, "\r\n", "\n")), 0o600))
}

// browse is a browser: it reads the page, answers its form, and goes where it
// is sent, in the way that is asked for.
func browse(page, upstream, how string) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	b := &http.Client{
		Jar: jar,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if _, port, _ := net.SplitHostPort(addr); port == "443" {
					addr = upstream
				}
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			},
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // whose certificate it is does not matter here
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second,
	}
	defer b.CloseIdleConnections()
	var text strings.Builder
	get := func(address, host, method string) error {
		r, err := http.NewRequest(method, address, nil)
		if err != nil {
			return err
		}
		if host != "" {
			r.Host = host
		}
		resp, err := b.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		fmt.Fprintf(&text, "%s %s\n", resp.Proto, resp.Status)
		_ = resp.Header.Write(&text)
		body, err := io.ReadAll(resp.Body)
		text.Write(body)
		return err
	}
	if err := get(page, "", "GET"); err != nil {
		return "", err
	}
	if !strings.Contains(text.String(), "<form") {
		return "", fmt.Errorf("the page has no form: %s", text.String())
	}
	answer := "yes"
	if how == "no" {
		answer = "no"
	}
	resp, err := b.PostForm(page, url.Values{"answer": {answer}})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		return "", err
	}
	text.Reset()
	q := to.Query()
	switch how {
	case "yes", "no":
		err := get(to.String(), "", "GET")
		return text.String(), err
	case "forged":
		q.Set("state", "FORGEDSTATEFORGEDSTATEFORGE")
	case "error":
		q.Del("code")
		q.Set("error", "<b>call 555 and say your password</b>")
	case "double":
		q.Add("code", "code-another")
	case "elsewhere": // all that is not the one request, and then that
		other := *to
		other.Path = "/other"
		slash := *to
		slash.Path = "/callback/"
		port := to.Port()
		for _, try := range []struct{ address, host, method string }{
			{other.String(), "", "GET"}, {slash.String(), "", "GET"}, {to.String(), "", "POST"}, {to.String(), "", "HEAD"},
			{to.String(), "evil.test:" + port, "GET"}, {to.String(), "localhost:" + port, "GET"}, {to.String(), "127.0.0.1", "GET"},
			{"http://127.0.0.1:" + port + "/", "", "GET"}, {"http://127.0.0.1:" + port + "/favicon.ico", "", "GET"},
		} {
			if err := get(try.address, try.host, try.method); err != nil {
				return "", err
			}
		}
	case "twice":
		first := make(chan error, 1)
		go func() { first <- get(to.String(), "", "GET") }()
		if err := <-first; err != nil {
			return "", err
		}
		// By now the login may have stopped listening, which is as good.
		if err := get(to.String(), "", "GET"); err != nil {
			text.WriteString("HTTP/1.1 410 Gone\n")
		}
		return text.String(), nil
	}
	to.RawQuery = q.Encode()
	err = get(to.String(), "", "GET")
	return text.String(), err
}

// cmdActivate types the code that FILE shows, on another device, and says yes
// or no.
func cmdActivate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: activate FILE yes|no")
	}
	shows := regexp.MustCompile(`STAND-[0-9]+`)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if code := shows.FindString(string(data)); code != "" {
			ts.Check(apis(ts).idp.Activate(code, args[1] == "yes"))
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s shows no code: %q, %v", args[0], data, err)
		}
	}
}

// cmdHidden wants every token and code that the provider ever gave, and the
// client's secret, to be in no file of the home or of the story and in no
// process.
func cmdHidden(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: hidden")
	}
	tokens := append(apis(ts).idp.Tokens(), standin.IDPSecret)
	if len(tokens) < 3 {
		ts.Fatalf("the provider gave nothing that could be found")
	}
	for _, token := range tokens {
		cmdNowhere(ts, false, []string{token})
	}
	ts.Check(filepath.Walk(ts.MkAbs("."), func(path string, info os.FileInfo, err error) error {
		// The person's own copy of the client secret is theirs.
		if err != nil || !info.Mode().IsRegular() || info.Name() == "secret" {
			return err
		}
		data, err := os.ReadFile(path)
		for _, token := range tokens {
			if bytes.Contains(data, []byte(token)) {
				return fmt.Errorf("%s shows %s…", path, token[:8])
			}
		}
		return err
	}))
}

// cmdExpire ends every access token that was given so far.
func cmdExpire(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: expire")
	}
	apis(ts).idp.Expire()
}

// cmdRevoked wants so many tokens to have been given back.
func cmdRevoked(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[0])
	if neg || err != nil {
		ts.Fatalf("usage: revoked N")
	}
	if got := len(apis(ts).idp.Revoked()); got != n {
		ts.Fatalf("%d tokens were given back", got)
	}
}
