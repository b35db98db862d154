package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"

	"moldable.sh/aivault/internal/standin"
)

// TestScripts runs the CLI's stories, testdata/script/*.txtar: real binaries,
// each story with a home of its own. Beside testscript's own commands there are
//
//	exits N PROGRAM ARGS…   run it and expect exactly this exit status
//	standin [HOST…]         start an HTTPS API; sets STANDIN (address), STANDIN_PORT and STANDIN_CA (a
//	                        file), and what makes a development build reach HOST there
//	mutual [HOST…]          as standin, an API that wants a client certificate; sets MUTUAL_PORT and MUTUAL_CA,
//	                        and writes certificates: anna, boris, ended and a stranger's (NAME.crt, NAME.key)
//	plain                   start an API without TLS on this machine; sets PLAIN_PORT; it answers with the
//	                        header fields that it received
//	seen FILE               write the requests that it received to FILE
//	step                    let its event stream go on, one event
//	typing N FILE PROGRAM…  run it at a terminal, type a line of FILE at each prompt, expect exit status N;
//	                        what the terminal shows is in the file "screen"
//	mend                    run the command of each of the doctor's findings, once
//	waitrequest PATH        wait until it received a request for PATH
//	waitfor FILE TEXT       wait until FILE holds TEXT
//	nowhere TEXT            no file in the home and no process of it holds TEXT
//	shell LINE              run a line of sh
//	idp                     start identity providers, and APIs that take their tokens
//	browse FILE HOW         answer the page of consent whose address FILE shows: yes, no, and worse
//	activate FILE yes|no    type the code that FILE shows, on another device
//	expire                  end the access tokens that were given so far
//	revoked N               expect so many tokens to have been given back
//	hidden                  no token, code or client secret can be read anywhere
//	accounts                start Google and GitHub, as far as they give tokens for a signed JWT, and an API
//	                        that makes keys; writes robot.json, acme.private-key.pem and what is neither
//	signed CLAIM VALUE      expect a claim of the last JWT; "asked": how often a token was asked for
//	unseen                  no token or key of these can be read anywhere
//	cloud IDFILE SECRETFILE start services of AWS in eu-west-1 that check signatures, made with this key or one
//	                        of a role; sets what makes a development build reach them, and BUCKET_PORT, where
//	                        another S3 is
//
// The directory $DEV holds the programs built with the tag aivault_dev.
func TestScripts(t *testing.T) {
	bins := build(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               func(env *testscript.Env) error { return setUp(env, bins) },
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": cmdExits, "standin": cmdStandin, "plain": cmdPlain, "seen": cmdSeen, "step": cmdStep,
			"waitfor": cmdWaitFor, "waitrequest": cmdWaitRequest, "typing": cmdTyping, "nowhere": cmdNowhere, "shell": cmdShell,
			"mutual": cmdMutual,
			"mend":   cmdMend,
			"cloud":  cmdCloud,
			"idp":    cmdIDP, "browse": cmdBrowse, "activate": cmdActivate, "expire": cmdExpire, "revoked": cmdRevoked, "hidden": cmdHidden,
			"accounts": cmdAccounts, "signed": cmdSigned, "unseen": cmdUnseen,
		},
	})
}

// programs are both programs in both builds; TestMain removes them.
var programs struct {
	once sync.Once
	dir  string
	err  error
}

// build makes them when they are first asked for. The directories release and
// dev are in the one that it returns.
func build(t *testing.T) string {
	t.Helper()
	p := &programs
	p.once.Do(func() {
		if p.dir, p.err = os.MkdirTemp("", "avbin"); p.err != nil {
			return
		}
		for name, tags := range map[string]string{"release": "", "dev": "aivault_dev"} {
			cmd := exec.Command("go", "build", "-tags", tags, "-o", filepath.Join(p.dir, name)+"/", "moldable.sh/aivault/cmd/aivault", "moldable.sh/aivault/cmd/aivaultd")
			if text, err := cmd.CombinedOutput(); err != nil {
				p.err = fmt.Errorf("build %s: %w\n%s", name, err, text)
				return
			}
		}
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.dir
}

type apiKey struct{}

// setUp gives a story its home, whose path is short enough for a socket, and
// an environment of nothing but what it needs.
func setUp(env *testscript.Env, bins string) error {
	home, err := os.MkdirTemp("/tmp", "av")
	if err != nil {
		return err
	}
	release := filepath.Join(bins, "release")
	env.Vars = slices.DeleteFunc(env.Vars, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "HOME" || name == "PATH"
	})
	env.Vars = append(env.Vars, "HOME="+home, "PATH="+release+":"+os.Getenv("PATH"), "BIN="+release, "DEV="+filepath.Join(bins, "dev"))
	env.Values[apiKey{}] = &story{}
	env.Defer(func() {
		stopDaemon(home, release)
		if err := os.RemoveAll(home); err != nil {
			env.T().Log(err)
		}
	})
	return nil
}

// stopDaemon ends the story's daemon, wherever the story put its vault.
func stopDaemon(home, bin string) {
	dirs := []string{""}
	_ = filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "daemon.lock" {
			dirs = append(dirs, filepath.Dir(path))
		}
		return nil
	})
	for _, dir := range dirs {
		cmd := exec.Command(filepath.Join(bin, "aivault"), "daemon", "stop")
		cmd.Env = []string{"HOME=" + home}
		if dir != "" && dir != filepath.Join(home, ".aivault/data/vault") {
			cmd.Env = append(cmd.Env, "AIVAULT_DIR="+dir)
		}
		_ = cmd.Run() // exit 7 where none runs
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if neg || err != nil || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARGS…")
	}
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// cmdTyping types as a person does: when asked. What is typed before the
// program turned the echo off would show on any terminal.
func cmdTyping(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: typing STATUS FILE PROGRAM ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	lines := strings.SplitAfter(ts.ReadFile(args[1]), "\n")
	person, tty, err := pty.Open()
	ts.Check(err)
	defer person.Close()
	program := args[2]
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path, err := exec.LookPath(filepath.Join(dir, args[2])); err == nil {
			program = path
			break
		}
	}
	cmd := exec.Command(program, args[3:]...)
	for _, name := range []string{"HOME", "PATH", "AIVAULT_DIR", "AIVAULTD_DISABLE"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Dir = ts.MkAbs(".")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, ts.Stdout(), ts.Stderr()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	ts.Check(tty.Close())
	screen := make(chan string)
	go func() {
		var shown []byte
		buf := make([]byte, 1024)
		for {
			n, err := person.Read(buf)
			shown = append(shown, buf[:n]...)
			if err != nil {
				screen <- string(shown)
				return
			}
			if bytes.HasSuffix(shown, []byte(": ")) && len(lines) > 0 {
				_, _ = person.WriteString(lines[0])
				lines = lines[1:]
			}
		}
	}()
	watchdog := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	err = cmd.Wait()
	ts.Check(os.WriteFile(ts.MkAbs("screen"), []byte(<-screen), 0o600))
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Check(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func cmdShell(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: shell LINE")
	}
	ts.Check(ts.Exec("sh", "-euc", args[0]))
}

func cmdStandin(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: standin [HOST…]")
	}
	api, err := standin.Start(nil, args...)
	ts.Check(err)
	ts.Defer(api.Close)
	apis(ts).api = api
	ca := ts.MkAbs("standin-ca.pem")
	ts.Check(os.WriteFile(ca, api.CAPEM(), 0o600))
	ts.Setenv("STANDIN", api.Addr().String())
	ts.Setenv("STANDIN_PORT", strconv.Itoa(int(api.Addr().Port())))
	ts.Setenv("STANDIN_CA", ca)
	if len(args) > 0 {
		var pairs []string
		for _, host := range args {
			pairs = append(pairs, host+"="+api.Addr().String())
		}
		ts.Setenv("AIVAULT_DEV_RESOLVE", strings.Join(pairs, ","))
		ts.Setenv("AIVAULT_DEV_CA_CERT_PATH", ca)
	}
}

func cmdPlain(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: plain")
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_ = r.Header.Write(w) // whoever reads it is gone, if it fails
	}))
	ts.Defer(server.Close)
	ts.Setenv("PLAIN_PORT", strconv.Itoa(server.Listener.Addr().(*net.TCPAddr).Port))
}

func cmdSeen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: seen FILE")
	}
	var b strings.Builder
	for _, s := range apis(ts).api.Seen() {
		fmt.Fprintf(&b, "%s %s\nHost: %s\n", s.Method, s.Target, s.Host)
		if s.Client != nil {
			fmt.Fprintf(&b, "client=%s\n", s.Client.Subject.CommonName)
		}
		var names []string
		for name := range s.Header {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			for _, value := range s.Header[name] {
				fmt.Fprintf(&b, "%s: %s\n", http.CanonicalHeaderKey(name), value)
			}
		}
		fmt.Fprintf(&b, "length=%d announced=%d sha256=%s\n", s.BodyLength, s.ContentLength, s.BodySHA256)
		if len(s.Body) < 4<<10 {
			fmt.Fprintf(&b, "body=%s\n", s.Body)
		}
		b.WriteString("\n")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o600))
}

func cmdStep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: step")
	}
	apis(ts).api.Step()
}

func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfor FILE TEXT")
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && bytes.Contains(data, []byte(args[1])) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not hold %q: %q, %v", args[0], args[1], data, err)
		}
	}
}

func cmdWaitRequest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitrequest PATH")
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		for _, s := range apis(ts).api.Seen() {
			if path, _, _ := strings.Cut(s.Target, "?"); path == args[0] {
				return
			}
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no request for %s", args[0])
		}
	}
}

// cmdNowhere looks for a text in every file below the home, and in arguments
// and environment of every process whose environment has this home.
func cmdNowhere(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: nowhere TEXT")
	}
	text, home := []byte(args[0]), ts.Getenv("HOME")
	files := 0
	ts.Check(filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if bytes.Contains(data, text) || strings.Contains(path, args[0]) {
			return fmt.Errorf("%s holds %q", path, text)
		}
		return err
	}))
	if files == 0 {
		ts.Fatalf("there is no file in the home to look at")
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	ts.Check(err)
	for _, p := range processes {
		environ, err := os.ReadFile(filepath.Join(p, "environ"))
		if err != nil || !bytes.Contains(environ, []byte("HOME="+home+"\x00")) {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		if bytes.Contains(environ, text) || bytes.Contains(cmdline, text) {
			ts.Fatalf("process %s (%q) shows %q", p, cmdline, text)
		}
	}
}

// story is what belongs to one run of a script.
type story struct {
	api       *standin.API
	idp       *standin.IDP
	authority *standin.JWTAuthority
}

func apis(ts *testscript.TestScript) *story { return ts.Value(apiKey{}).(*story) }
