//go:build system

package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"moldable.sh/aivault/internal/standin"
)

// These tests log in with a browser that people use: Chromium, without a
// screen, driven through WebDriver (W3C) as a person's hand would.

// A browser is one Chromium.
type browser struct {
	t       *testing.T
	session string // address of its WebDriver session
	http    http.Client
}

var driverPort = regexp.MustCompile(`successfully on port ([0-9]+)`)

// startBrowser starts Chromium. What it asks the network for, but for this
// machine itself, goes to the stand-in.
func startBrowser(t *testing.T, upstream string) *browser {
	t.Helper()
	driver := exec.Command("chromedriver", "--port=0")
	driver.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	home := t.TempDir()
	driver.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home}
	out, err := driver.StdoutPipe()
	must(t, err)
	must(t, driver.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-driver.Process.Pid, syscall.SIGKILL) // and the browser, whatever became of it
		_ = driver.Wait()
	})
	port := ""
	lines := bufio.NewScanner(out)
	for port == "" && lines.Scan() {
		if m := driverPort.FindStringSubmatch(lines.Text()); m != nil {
			port = m[1]
		}
	}
	if port == "" {
		t.Fatal("chromedriver said no port")
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	b := &browser{t: t, session: "http://127.0.0.1:" + port, http: http.Client{Timeout: time.Minute}}
	var made struct {
		SessionID string `json:"sessionId"`
	}
	b.do("POST", "/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"browserName": "chrome", "acceptInsecureCerts": true, "timeouts": map[string]int{"pageLoad": 30000, "implicit": 5000},
		"goog:chromeOptions": map[string]any{"args": []string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--user-data-dir=" + filepath.Join(home, "profile"),
			"--host-resolver-rules=MAP * " + upstream + ", EXCLUDE 127.0.0.1, EXCLUDE localhost",
		}},
	}}}, &made)
	b.session += "/session/" + made.SessionID
	t.Cleanup(func() { b.do("DELETE", "", nil, nil) })
	return b
}

// do asks the driver; anything but success fails the test.
func (b *browser) do(method, path string, body, answer any) {
	b.t.Helper()
	if err := b.try(method, path, body, answer); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) try(method, path string, body, answer any) error {
	var data io.Reader
	if method == "POST" {
		if body == nil {
			body = struct{}{}
		}
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		data = bytes.NewReader(text)
	}
	r, err := http.NewRequest(method, b.session+path, data)
	if err != nil {
		return err
	}
	resp, err := b.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var said struct {
		Value json.RawMessage `json:"value"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the browser, asked for %s %s: %s", method, path, said.Value)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(said.Value, answer)
}

// open goes to a page.
func (b *browser) open(address string) {
	b.t.Helper()
	b.do("POST", "/url", map[string]string{"url": address}, nil)
}

// find is an element of the page, by its id.
func (b *browser) find(id string) string {
	b.t.Helper()
	var found map[string]string
	b.do("POST", "/element", map[string]string{"using": "css selector", "value": "#" + id}, &found)
	for _, reference := range found {
		return "/element/" + reference
	}
	b.t.Fatalf("the page has no %s", id)
	return ""
}

func (b *browser) click(id string) {
	b.t.Helper()
	b.do("POST", b.find(id)+"/click", nil, nil)
}

func (b *browser) typeInto(id, text string) {
	b.t.Helper()
	b.do("POST", b.find(id)+"/value", map[string]string{"text": text}, nil)
}

func (b *browser) text(what string) (text string) {
	b.t.Helper()
	b.do("GET", what, nil, &text)
	return text
}

// tab opens another tab and goes on there.
func (b *browser) tab() (back func()) {
	b.t.Helper()
	before := b.text("/window")
	var made struct{ Handle string }
	b.do("POST", "/window/new", map[string]string{"type": "tab"}, &made)
	b.do("POST", "/window", map[string]string{"handle": made.Handle}, nil)
	return func() { b.do("POST", "/window", map[string]string{"handle": before}, nil) }
}

// desk is a person's machine: a home, a daemon, a browser, and the provider
// that they log in at.
type desk struct {
	t       *testing.T
	dir     string
	bin     string
	env     []string
	idp     *standin.IDP
	browser *browser

	mu    sync.Mutex
	shown bytes.Buffer // all that any command printed
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "avdesk")
	must(t, err)
	d := &desk{t: t, dir: dir, bin: filepath.Join(build(t), "dev"), idp: standin.NewIDP(standin.IDPOptions{Paths: idpPaths, Account: "alice@example.com", Interval: 1})}
	// A page of somebody else's, beside the provider's.
	evil := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Host, "evil.test") {
			w.Header().Set("Content-Type", "text/html")
			_, _ = fmt.Fprintf(w, `<!DOCTYPE html><title>evil</title><script>location = %q + location.search</script>`, "http://127.0.0.1:"+r.URL.Query().Get("port")+"/callback")
			return
		}
		d.idp.ServeHTTP(w, r)
	})
	api, err := standin.Start(evil, append([]string{"evil.test"}, idpHosts...)...)
	must(t, err)
	t.Cleanup(api.Close)
	ca := filepath.Join(dir, "ca.pem")
	must(t, os.WriteFile(ca, api.CAPEM(), 0o600))
	d.env = []string{
		"HOME=" + dir, "PATH=" + d.bin + ":" + os.Getenv("PATH"),
		"AIVAULT_DEV_RESOLVE=" + devResolve(api, idpHosts), "AIVAULT_DEV_CA_CERT_PATH=" + ca,
	}
	t.Cleanup(func() {
		stopDaemon(dir, d.bin)
		_ = os.RemoveAll(dir)
	})
	d.browser = startBrowser(t, api.Addr().String())
	d.watch()
	return d
}

// watch looks into /proc all the time, until the test ends.
func (d *desk) watch() {
	stop, done := make(chan struct{}), make(chan struct{})
	found := ""
	go func() {
		defer close(done)
		for {
			if found == "" {
				found = d.visible()
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	d.t.Cleanup(func() {
		close(stop)
		<-done
		if found != "" {
			d.t.Error(found)
		}
	})
}

// visible says in which process's environment or arguments a token can be
// read.
func (d *desk) visible() string {
	tokens := append(d.idp.Tokens(), standin.IDPSecret)
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		for _, name := range []string{"environ", "cmdline"} {
			data, _ := os.ReadFile(filepath.Join(p, name))
			for _, token := range tokens {
				if bytes.Contains(data, []byte(token)) {
					return fmt.Sprintf("%s/%s shows %s…", p, name, token[:8])
				}
			}
		}
	}
	return ""
}

// A running is a command that runs.
type running struct {
	cmd    *exec.Cmd
	stderr *spool
	stdout *spool
}

// spool is what a command prints, while it does.
type spool struct {
	mu  sync.Mutex
	buf bytes.Buffer
	all *desk
}

func (s *spool) Write(p []byte) (int, error) {
	s.all.mu.Lock()
	s.all.shown.Write(p)
	s.all.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *spool) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func (d *desk) start(stdin string, args ...string) *running {
	d.t.Helper()
	r := &running{cmd: exec.Command(filepath.Join(d.bin, "aivault"), args...), stderr: &spool{all: d}, stdout: &spool{all: d}}
	r.cmd.Env, r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = d.env, d.dir, r.stdout, r.stderr
	r.cmd.Stdin = strings.NewReader(stdin)
	must(d.t, r.cmd.Start())
	d.t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	return r
}

// shows waits for what a command prints.
func (d *desk) shows(r *running, re *regexp.Regexp) string {
	d.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if m := re.FindString(r.stderr.String()); m != "" {
			return m
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("it shows no %s: %s", re, r.stderr)
		}
	}
}

func (d *desk) ends(r *running, exit int, text string) {
	d.t.Helper()
	_ = r.cmd.Wait()
	if got := r.cmd.ProcessState.ExitCode(); got != exit || !strings.Contains(r.stderr.String(), text) {
		d.t.Errorf("exit %d, want %d; %q does not say %q", got, exit, r.stderr, text)
	}
}

func (d *desk) runs(args ...string) string {
	d.t.Helper()
	r := d.start("", args...)
	d.ends(r, 0, "")
	return r.stdout.String()
}

func (d *desk) login(more ...string) *running {
	d.t.Helper()
	return d.start(standin.IDPSecret+"\n", append([]string{"oauth", "login", "gitlab", "--no-browser", "--client-id", standin.IDPClient, "--client-secret-stdin"}, more...)...)
}

// clean wants no token in anything that was printed, in the logs and the
// vault's directory, and none in the browser's last page.
func (d *desk) clean() {
	d.t.Helper()
	tokens := append(d.idp.Tokens(), standin.IDPSecret)
	if len(tokens) < 3 {
		d.t.Fatal("the provider gave nothing that could be found")
	}
	page := d.browser.text("/source")
	d.mu.Lock()
	printed := d.shown.String()
	d.mu.Unlock()
	for _, token := range tokens {
		if strings.Contains(printed, token) || strings.Contains(page, token) {
			d.t.Errorf("%s… was shown", token[:8])
		}
	}
	must(d.t, filepath.Walk(d.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, token := range tokens {
			if bytes.Contains(data, []byte(token)) {
				d.t.Errorf("%s holds %s…", path, token[:8])
			}
		}
		return err
	}))
}

var consentPage = regexp.MustCompile(`(?m)^https://\S+$`)

func TestSystemLoginInABrowser(t *testing.T) {
	d := newDesk(t)
	b := d.browser

	// The whole way, by hand: the page, the button, back to this machine.
	r := d.login()
	b.open(d.shows(r, consentPage))
	if head := b.text(b.find("yes") + "/text"); head != "Yes" {
		t.Errorf("the page's button says %q", head)
	}
	b.click("yes")
	d.ends(r, 0, "Logged in at gitlab as alice@example.com")
	back := b.text("/url")
	if title, source := b.text("/title"), b.text("/source"); title != "aivault" || !strings.Contains(source, "You can close this page") ||
		strings.Contains(source, "<script") || !strings.HasPrefix(back, "http://127.0.0.1:") {
		t.Errorf("the browser is at %s, with %q", back, source)
	}
	// Its port is closed: going there again, in another tab, finds nobody.
	leave := b.tab()
	if err := b.try("POST", "/url", map[string]string{"url": back}, nil); err == nil || !strings.Contains(err.Error(), "ERR_CONNECTION_REFUSED") {
		t.Errorf("the address that the browser came back to answers again: %v", err)
	}
	leave()
	if out := d.runs("oauth", "status"); !strings.Contains(out, "good") {
		t.Error(out)
	}
	d.clean()

	// No is no.
	r = d.login("--force")
	b.open(d.shows(r, consentPage))
	b.click("no")
	d.ends(r, 5, "gitlab let nobody log in: access_denied")

	// Two logins in two tabs do not mix: each gets its own answer.
	one, two := d.login("--force"), d.login("--force", "--workspace-id", "acme")
	b.open(d.shows(one, consentPage))
	leave = b.tab()
	b.open(d.shows(two, consentPage))
	b.click("yes")
	d.ends(two, 0, "Logged in")
	answered := b.text("/url")
	leave()
	// The answer of the other tab, sent to the port of this login.
	mine := regexp.MustCompile(`redirect_uri=http%3A%2F%2F127\.0\.0\.1%3A([0-9]+)`).FindStringSubmatch(d.shows(one, consentPage))[1]
	b.open(regexp.MustCompile(`:[0-9]+/`).ReplaceAllString(answered, ":"+mine+"/"))
	d.ends(one, 3, "its state is another")

	// A page of somebody else's sends the browser to the login, with a code
	// and a state that it made up.
	r = d.login("--force")
	page := d.shows(r, consentPage)
	port := regexp.MustCompile(`127\.0\.0\.1%3A([0-9]+)`).FindStringSubmatch(page)[1]
	_ = b.try("POST", "/url", map[string]string{"url": "https://evil.test/?port=" + port + "&code=evil&state=evil"}, nil) // the script may be quicker than the answer
	d.ends(r, 3, "its state is another")

	// A redirect to where this login does not listen, and to its port on
	// another path.
	r = d.login("--force")
	page = d.shows(r, consentPage)
	port = regexp.MustCompile(`127\.0\.0\.1%3A([0-9]+)`).FindStringSubmatch(page)[1]
	b.open("http://127.0.0.1:" + port + "/other?code=evil&state=evil")
	if source := b.text("/source"); !strings.Contains(source, "there is nothing here") {
		t.Error(source)
	}
	b.open("http://localhost:" + port + "/callback?code=evil&state=evil")
	if source := b.text("/source"); !strings.Contains(source, "not the host of a login") {
		t.Error(source)
	}
	b.open(page) // and it is as good as before
	b.click("yes")
	d.ends(r, 0, "Logged in")
	d.clean()

	// Logged out, the tokens are of no use.
	d.runs("oauth", "logout", "gitlab")
	if len(d.idp.Revoked()) < 2 {
		t.Error("nothing was given back")
	}
	d.clean()
}

// By a code that a person reads in the terminal and types in a browser.
func TestSystemLoginByDevice(t *testing.T) {
	d := newDesk(t)
	r := &running{cmd: exec.Command(filepath.Join(d.bin, "aivault"), "oauth", "login", "gitlab", "--device", "--client-id", standin.IDPClient), stderr: &spool{all: d}}
	person, tty, err := pty.Open()
	must(t, err)
	defer person.Close()
	r.cmd.Env, r.cmd.Dir, r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = d.env, d.dir, tty, tty, tty
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(t, r.cmd.Start())
	must(t, tty.Close())
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(r.stderr, person) // ends with the terminal
	}()
	d.shows(r, regexp.MustCompile(`Client secret of the app: $`))
	_, err = person.WriteString(standin.IDPSecret + "\n")
	must(t, err)
	line := d.shows(r, regexp.MustCompile(`Open \S+ on any device, and type this code: STAND-[0-9]+`))
	words := strings.Fields(line)
	d.browser.open(words[1])
	d.browser.typeInto("user_code", words[len(words)-1])
	d.browser.click("yes")
	_ = r.cmd.Wait()
	<-read
	if got := r.cmd.ProcessState.ExitCode(); got != 0 || !strings.Contains(r.stderr.String(), "Logged in at gitlab as alice@example.com") {
		t.Errorf("exit %d: %s", got, r.stderr)
	}
	if out := d.runs("oauth", "status"); !strings.Contains(out, "alice@example.com") {
		t.Error(out)
	}
	d.clean()
}
