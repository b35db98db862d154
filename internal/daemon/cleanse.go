package daemon

import (
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

// Cleanse makes sure that this process runs with none but aivault's own
// variables in its environment, and returns when it does. Otherwise the
// program executes itself again, with the same arguments and a clean
// environment, and does not return.
//
// It is called first by every process that will open secrets: what the
// runtime, the standard library or the C library read from the environment
// (GODEBUG, SSL_CERT_FILE, HTTPS_PROXY, RES_OPTIONS, …) could make the program
// talk, or change whom it trusts. Key variables (AIVAULT_KEY and those in
// keyNames) do not stay in an environment either, where /proc shows them: they
// travel in a pipe that AIVAULT_KEY_FD announces to the second process.
//
// It also silences the standard library's logger, to which net/http writes
// what an upstream sent after its answer: that may be an echo of a secret. And
// the second process can gain no rights by executing a file, nor can what it
// starts.
func Cleanse(keyNames []string) error {
	clean, keys, dirty := split(os.Environ(), keyNames)
	// Rights are dropped by thread, and only a program that is executed has all
	// of its threads so. Where they cannot be dropped, nothing would be had by
	// starting again.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if !rightsDropped() && dropRights() {
		dirty = true
	}
	if !dirty {
		log.SetOutput(io.Discard)
		return nil
	}
	if len(keys) > 0 {
		fd, err := sendKeys(keys)
		if err != nil {
			return api.Errorf(api.Internal, "daemon: hand the key to the cleansed process: %w", err)
		}
		clean = append(clean, varKeyFD+"="+strconv.Itoa(fd))
	}
	file, err := ownFile()
	if err != nil {
		return api.Errorf(api.Internal, "daemon: find the program's own file: %w", err)
	}
	err = unix.Exec(file, os.Args, clean)
	return api.Errorf(api.Internal, "daemon: start again with a clean environment: %w", err)
}

// split sorts an environment into what may stay and the keys. dirty is set
// when anything else was there: then the process must start again.
func split(environ, keyNames []string) (clean []string, keys map[string]string, dirty bool) {
	keys = map[string]string{}
	seen := map[string]bool{}
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		switch {
		case !ok || seen[name]:
			dirty = true
		case name == varKey || slices.Contains(keyNames, name):
			dirty = true
			if value != "" {
				keys[name] = value
			}
		case !known(name):
			dirty = true
		case name == varKeyFD:
			// Its pipe was read already, or is of no use to anyone.
			dirty = true
		default:
			clean = append(clean, kv)
		}
		seen[name] = true
	}
	return clean, keys, dirty
}

// maxKeys bounds what the pipe carries: it must fit the pipe's buffer, for
// its reader starts when the writer is gone.
const maxKeys = 32 << 10

// sendKeys writes keys into a pipe and returns the number of its read end,
// which the executed program inherits.
func sendKeys(keys map[string]string) (int, error) {
	b, err := strictjson.Marshal(keys)
	if err != nil {
		return 0, err
	}
	defer clear(b)
	if len(b) > maxKeys {
		return 0, fmt.Errorf("the key is too long")
	}
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return 0, err
	}
	unix.CloseOnExec(p[1])
	defer unix.Close(p[1])
	for rest := b; len(rest) > 0; {
		n, err := unix.Write(p[1], rest)
		if err != nil {
			unix.Close(p[0])
			return 0, err
		}
		rest = rest[n:]
	}
	return p[0], nil
}

// takeKeys reads what sendKeys wrote, closes the pipe, and takes its
// announcement out of the environment. Anyone can set AIVAULT_KEY_FD: only the
// read end of a pipe without a writer is touched, and it is never waited for.
func takeKeys(announced string) (map[string]secret.Value, error) {
	if err := os.Unsetenv(varKeyFD); err != nil {
		return nil, err
	}
	bad := api.Errorf(api.InvalidRequest, "%s is set, which aivault alone does for itself", varKeyFD).WithHint("unset %s", varKeyFD)
	fd, err := strconv.Atoi(announced)
	if err != nil || fd <= 2 || strconv.Itoa(fd) != announced || !readablePipe(fd) {
		return nil, bad
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, bad
	}
	f := os.NewFile(uintptr(fd), varKeyFD)
	defer f.Close()
	unix.CloseOnExec(fd)
	b, err := readNow(fd)
	defer clear(b)
	if err != nil {
		return nil, bad
	}
	keys := map[string]secret.Value{}
	if strictjson.Unmarshal(b, &keys) != nil {
		return nil, bad
	}
	return keys, nil
}

func readablePipe(fd int) bool {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return false
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDONLY
}

// readNow reads a pipe to its end without ever waiting.
func readNow(fd int) ([]byte, error) {
	b := make([]byte, maxKeys+1)
	n := 0
	for {
		m, err := unix.Read(fd, b[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return b[:n], err
		case m == 0:
			return b[:n], nil
		}
		if n += m; n == len(b) {
			return b, io.ErrShortBuffer
		}
	}
}

// ownFile is the path by which this very program can be executed again. The
// kernel's own link is taken unless the path names the same file, which then
// gives the process its proper name.
func ownFile() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	const link = "/proc/self/exe"
	running, err := os.Stat(link)
	if err != nil {
		return path, nil // no /proc: macOS
	}
	if named, err := os.Stat(path); err == nil && os.SameFile(named, running) {
		return path, nil
	}
	return link, nil
}
