package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/api"
)

// hardenRole is the test binary as a process that hardens itself.
const hardenRole = "harden-and-tell"

// hardenAndTell prints what is in force after the start of a process that
// opens secrets.
func hardenAndTell() int {
	Harden()
	if err := Cleanse(nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core != (unix.Rlimit{}) {
		// What is not dumpable leaves no core either: of the limit the status
		// would not tell.
		fmt.Fprintln(os.Stderr, "the limit of a core is", core, err)
		return 2
	}
	b, _ := json.Marshal(processStatus(false, false))
	fmt.Println(string(b))
	return 0
}

func hardened(t *testing.T, start func(*exec.Cmd) error) api.ProcessStatus {
	t.Helper()
	cmd := exec.Command(os.Args[0], hardenRole)
	var out, logged strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &logged
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &logged)
	}
	var p api.ProcessStatus
	if err := json.Unmarshal([]byte(out.String()), &p); err != nil {
		t.Fatalf("%v: %q", err, out.String())
	}
	return p
}

func TestHarden(t *testing.T) {
	want := api.ProcessStatus{NoNewPrivs: true, LockedMemory: true, CleanEnv: true}
	if runtime.GOOS == "darwin" {
		want.NoNewPrivs, want.Note = false, "macOS knows no NO_NEW_PRIVS"
	}
	// Started by a shell, with all that is in its environment, or by the CLI.
	if got := hardened(t, (*exec.Cmd).Start); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	clean := func(cmd *exec.Cmd) error {
		cmd.Env = []string{"HOME=/h"}
		return WithoutRights(cmd.Start)
	}
	if got := hardened(t, clean); got != want {
		t.Errorf("by the CLI: %+v, want %+v", got, want)
	}
	cleanOnly := func(cmd *exec.Cmd) error {
		cmd.Env = []string{"HOME=/h"}
		return cmd.Start()
	}
	if got := hardened(t, cleanOnly); got != want {
		t.Errorf("by who drops nothing: %+v, want %+v", got, want)
	}
}

// This process did not harden itself, and says so.
func TestWhatIsNotInForceIsTold(t *testing.T) {
	t.Setenv("SOMEBODY_ELSES", "1")
	got := processStatus(true, false)
	if !got.Dumpable && runtime.GOOS == "linux" {
		t.Error("this process says that it cannot be dumped")
	}
	if got.LockedMemory || got.CleanEnv {
		t.Errorf("%+v", got)
	}
	for _, part := range []string{"keys are not in locked memory", "its environment is its parent's"} {
		if !strings.Contains(got.Note, part) {
			t.Errorf("the note %q does not say that %s", got.Note, part)
		}
	}
	if !processStatus(true, true).LockedMemory {
		t.Error("keys that are locked are said not to be")
	}
}

func TestMayDump(t *testing.T) {
	if !mayDump(true, unix.Rlimit{Max: 1}) || !mayDump(true, unix.Rlimit{Max: unix.RLIM_INFINITY}) {
		t.Error("a limit above 0 lets a core be written")
	}
	if runtime.GOOS == "linux" && mayDump(false, unix.Rlimit{Max: 1}) {
		t.Error("of what is not dumpable nothing is written")
	}
}

func TestLockLimit(t *testing.T) {
	if got := lockLimit(); !strings.Contains(got, "RLIMIT_MEMLOCK is ") && !strings.Contains(got, "the system") {
		t.Errorf("%q", got)
	}
}
