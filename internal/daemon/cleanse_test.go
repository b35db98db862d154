package daemon

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary plays the programs whose start is tested: it is told so by
// its first argument, because no other variable survives.
const cleanseRole = "cleanse-and-tell"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == cleanseRole {
		os.Exit(cleanseAndTell())
	}
	if len(os.Args) > 1 && os.Args[1] == hardenRole {
		os.Exit(hardenAndTell())
	}
	os.Exit(m.Run())
}

// told is what the second process sees.
type told struct {
	Environ []string
	Kernel  []string // what /proc shows
	Keys    map[string]string
	PID     int
	FDs     []string
}

func cleanseAndTell() int {
	env, err := ParseEnv(os.Environ())
	if err == nil {
		err = Cleanse(env.KeyNames())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	log.Print("what an upstream sent")
	tell := told{Environ: os.Environ(), Keys: map[string]string{}, PID: os.Getpid()}
	for name, v := range env.Keys {
		tell.Keys[name] = string(v.Expose())
	}
	if b, err := os.ReadFile("/proc/self/environ"); err == nil {
		tell.Kernel = strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
	}
	b, _ := json.Marshal(tell)
	fmt.Println(string(b))
	return 0
}

func runCleanse(t *testing.T, environ []string, extra ...*os.File) (told, int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], cleanseRole)
	var out, logged strings.Builder
	cmd.Env, cmd.ExtraFiles, cmd.Stderr = environ, extra, &logged
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v with %q: %s", err, environ, &logged)
	}
	if logged.Len() > 0 {
		t.Errorf("a process that opens secrets lets the standard library log: %q", &logged)
	}
	var tell told
	if err := json.Unmarshal([]byte(out.String()), &tell); err != nil {
		t.Fatalf("%v: %q", err, out.String())
	}
	return tell, cmd.Process.Pid
}

func TestCleanseDropsWhatIsNotOurs(t *testing.T) {
	hostile := []string{
		"GODEBUG=http2debug=2", "GOTRACEBACK=all", "HTTPS_PROXY=http://127.0.0.1:1", "https_proxy=http://127.0.0.1:1", "ALL_PROXY=x",
		"SSL_CERT_FILE=/tmp/evil.pem", "SSL_CERT_DIR=/tmp", "RES_OPTIONS=x", "LOCALDOMAIN=x", "LD_PRELOAD=", "PATH=/tmp", "TZ=/tmp/x", "GOGC=1",
		"AIVAULT_KEYS=x", "AIVAULTD_SOCKET_=x", "HTTP_PROXY=x", "AIVAULT_KEY_FD2=9",
	}
	ours := []string{"HOME=/h", "AIVAULT_DIR=/d", "TERM=dumb", "NO_COLOR=1", "AIVAULTD_DISABLE=1", "AIVAULT_DEV_RESOLVE=a=1.2.3.4:5"}
	tell, pid := runCleanse(t, append(slices.Clone(hostile), append(ours, "AIVAULT_KEY=k3y-of-the-vault")...))
	if !slices.Equal(sorted(tell.Environ), sorted(ours)) {
		t.Errorf("the second process has %q", tell.Environ)
	}
	if tell.PID != pid {
		t.Errorf("pid %d became %d: it did not execute itself", pid, tell.PID)
	}
	if tell.Keys["AIVAULT_KEY"] != "k3y-of-the-vault" {
		t.Error("the key did not arrive")
	}
	if runtime.GOOS == "linux" {
		kernel := slices.DeleteFunc(tell.Kernel, func(kv string) bool { return strings.HasPrefix(kv, varKeyFD+"=") })
		if !slices.Equal(sorted(kernel), sorted(ours)) || strings.Contains(strings.Join(tell.Kernel, " "), "k3y") {
			t.Errorf("/proc shows %q", tell.Kernel)
		}
	}
}

func TestCleanseTakesTheVaultsOwnVariable(t *testing.T) {
	dir := t.TempDir()
	header := `{"key":{"provider":"env","envVar":"MY_KEY"}}` + "\n"
	if err := os.WriteFile(dir+"/vault.aiv", []byte(header), 0o600); err != nil {
		t.Fatal(err)
	}
	tell, _ := runCleanse(t, []string{"HOME=/h", "AIVAULT_DIR=" + dir, "MY_KEY=abc", "OTHER=1"})
	if tell.Keys["MY_KEY"] != "abc" || slices.Contains(tell.Environ, "MY_KEY=abc") {
		t.Errorf("got %+v", tell)
	}
}

func TestCleanseLeavesACleanProcessAlone(t *testing.T) {
	tell, _ := runCleanse(t, []string{"HOME=/h"})
	if !slices.Equal(tell.Environ, []string{"HOME=/h"}) || len(tell.Keys) != 0 {
		t.Errorf("got %+v", tell)
	}
	for _, kv := range tell.Kernel {
		if strings.HasPrefix(kv, varKeyFD) {
			t.Error("a pipe was made for nothing")
		}
	}
}

// Whoever starts the program may announce any descriptor.
func TestAnAnnouncedDescriptorIsNotBelieved(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "f")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(`{"AIVAULT_KEY":"from a file"}`); err != nil {
		t.Fatal(err)
	}
	open := func() (r, w *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		return r, w
	}
	endless, writer := open() // nobody closes its writer: reading would wait
	full, fullWriter := open()
	if _, err := fullWriter.Write([]byte(`{"AIVAULT_KEY":1}`)); err != nil {
		t.Fatal(err)
	}
	fullWriter.Close()
	for name, c := range map[string]struct {
		announce string
		file     *os.File
	}{
		"a file":                 {"3", file},
		"a pipe that never ends": {"3", endless},
		"a pipe to write to":     {"3", writer},
		"not what we write":      {"3", full},
		"standard input":         {"0", nil},
		"standard output":        {"1", nil},
		"one that is not open":   {"77", nil},
		"the runtime's own":      {"4", nil},
		"no number":              {"-1", nil},
		"another spelling":       {"+3", file},
		"empty":                  {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], cleanseRole)
			cmd.Env = []string{"HOME=/h", "GODEBUG=x", varKeyFD + "=" + c.announce}
			if c.file != nil {
				cmd.ExtraFiles = []*os.File{c.file}
			}
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), varKeyFD) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		in    []string
		keys  []string
		clean []string
		dirty bool
	}{
		{[]string{"HOME=/h", "TERM=x"}, nil, []string{"HOME=/h", "TERM=x"}, false},
		{[]string{"HOME=/h", "X=1"}, nil, []string{"HOME=/h"}, true},
		{[]string{"HOME=/h", "HOME=/evil"}, nil, []string{"HOME=/h"}, true},
		{[]string{"NONSENSE"}, nil, nil, true},
		{[]string{"AIVAULT_KEY="}, nil, nil, true},
		{[]string{"K=v"}, []string{"K"}, nil, true},
		{[]string{varKeyFD + "=3"}, nil, nil, true},
		{nil, nil, nil, false},
	} {
		clean, _, dirty := split(c.in, c.keys)
		if !slices.Equal(clean, c.clean) || dirty != c.dirty {
			t.Errorf("%q: %q %v", c.in, clean, dirty)
		}
	}
}

func TestKeysOnTheirWay(t *testing.T) {
	fd, err := sendKeys(map[string]string{"A": "1", "B": "\"two\"\n"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := takeKeys(strconv.Itoa(fd))
	if err != nil || string(got["A"].Expose()) != "1" || string(got["B"].Expose()) != "\"two\"\n" {
		t.Errorf("%v", err)
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
		t.Error("the pipe is still open")
	}
	if _, err := sendKeys(map[string]string{"A": strings.Repeat("x", maxKeys)}); err == nil {
		t.Error("a key that does not fit the pipe was sent")
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }
