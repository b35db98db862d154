package vault

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// traced runs cmd to its end and returns, in order, what it did to the files
// below root. It skips the test where a process may not trace its child.
func traced(t *testing.T, cmd *exec.Cmd, root string) []diskEvent {
	t.Helper()
	type result struct {
		events []diskEvent
		err    error
	}
	done := make(chan result)
	go func() {
		// Only the thread that started a child may trace it.
		runtime.LockOSThread()
		tr := tracer{root: root, threads: map[int]*threadState{}, fds: map[int]*openFD{}}
		err := tr.run(cmd)
		done <- result{tr.events, err}
	}()
	r := <-done
	if errors.Is(r.err, syscall.EPERM) {
		t.Skip("this system does not let a process trace its child:", r.err)
	}
	must(t, r.err)
	return r.events
}

type tracer struct {
	root    string
	mem     *os.File
	threads map[int]*threadState
	fds     map[int]*openFD
	events  []diskEvent
}

// openFD is an open file or directory below the root.
type openFD struct {
	path string
	pos  int64
}

// threadState is the system call that a thread is in.
type threadState struct {
	inside bool
	nr     uint64
	args   [6]uint64
	paths  [2]string
	data   []byte
	mark   int // events so far, when it began
}

func (tr *tracer) run(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	main := cmd.Process.Pid
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(main, &ws, syscall.WALL, nil); err != nil {
		return err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", main))
	if err != nil {
		return err
	}
	defer mem.Close()
	tr.mem = mem
	options := unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if err := syscall.PtraceSetOptions(main, options); err != nil {
		return err
	}
	tr.threads[main] = &threadState{}
	if err := syscall.PtraceSyscall(main, 0); err != nil {
		return err
	}
	for {
		// Other tests have children, too.
		tid, err := syscall.Wait4(-1, &ws, syscall.WALL|unix.WNOTHREAD, nil)
		if err != nil {
			return err
		}
		if ws.Exited() || ws.Signaled() {
			if tid == main {
				if ws.ExitStatus() != 0 {
					return fmt.Errorf("the traced process ended with %d, signal %v", ws.ExitStatus(), ws.Signal())
				}
				return nil
			}
			continue
		}
		if err := tr.stopped(tid, ws); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
}

func (tr *tracer) stopped(tid int, ws syscall.WaitStatus) error {
	th, known := tr.threads[tid]
	if !known {
		th = &threadState{}
		tr.threads[tid] = th
		if ws.StopSignal() == syscall.SIGSTOP { // how a new thread begins
			return syscall.PtraceSyscall(tid, 0)
		}
	}
	signal := 0
	switch sig := ws.StopSignal(); {
	case sig == syscall.SIGTRAP|0x80:
		var regs syscall.PtraceRegs
		if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
			return err
		}
		if th.inside = !th.inside; th.inside {
			tr.enter(th, &regs)
		} else if err := tr.leave(th, int64(regs.Rax)); err != nil {
			return err
		}
	case sig == syscall.SIGTRAP:
	default:
		signal = int(sig)
	}
	return syscall.PtraceSyscall(tid, signal)
}

func (tr *tracer) bytes(addr, n uint64) []byte {
	b := make([]byte, n)
	got, _ := tr.mem.ReadAt(b, int64(addr))
	return b[:got]
}

// path reads a name and makes it absolute; "" for one that is not below the
// root.
func (tr *tracer) path(dirfd int, addr uint64) string {
	var b []byte
	for len(b) < 4096 && bytes.IndexByte(b, 0) < 0 {
		more := tr.bytes(addr+uint64(len(b)), 128)
		if len(more) == 0 {
			break
		}
		b = append(b, more...)
	}
	name, _, _ := bytes.Cut(b, []byte{0})
	path := string(name)
	if !filepath.IsAbs(path) {
		dir := tr.fds[dirfd]
		if dir == nil {
			return ""
		}
		path = filepath.Join(dir.path, path)
	}
	if path = filepath.Clean(path); path == tr.root || strings.HasPrefix(path, tr.root+"/") {
		return path
	}
	return ""
}

func (tr *tracer) enter(th *threadState, r *syscall.PtraceRegs) {
	*th = threadState{inside: true, nr: r.Orig_rax, args: [6]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}, mark: len(tr.events)}
	at := func(i int) int { return int(int32(th.args[i])) }
	switch th.nr {
	case unix.SYS_OPENAT, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT:
		th.paths[0] = tr.path(at(0), th.args[1])
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT:
		th.paths = [2]string{tr.path(at(0), th.args[1]), tr.path(at(2), th.args[3])}
	case unix.SYS_OPEN, unix.SYS_UNLINK, unix.SYS_RMDIR, unix.SYS_MKDIR:
		th.paths[0] = tr.path(unix.AT_FDCWD, th.args[0])
	case unix.SYS_RENAME, unix.SYS_LINK:
		th.paths = [2]string{tr.path(unix.AT_FDCWD, th.args[0]), tr.path(unix.AT_FDCWD, th.args[1])}
	case unix.SYS_CLOSE:
		// Before it has happened: another thread may be given the number and
		// be seen with it first.
		delete(tr.fds, at(0))
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		if at(0) == 1 || tr.fds[at(0)] != nil {
			th.data = tr.bytes(th.args[1], th.args[2])
		}
	}
}

func (tr *tracer) add(e diskEvent) { tr.events = append(tr.events, e) }

func (tr *tracer) leave(th *threadState, ret int64) error {
	if ret < 0 {
		return nil
	}
	fd := int(int32(th.args[0]))
	f := tr.fds[fd]
	switch th.nr {
	case unix.SYS_OPENAT, unix.SYS_OPEN:
		flags := th.args[2]
		if th.nr == unix.SYS_OPEN {
			flags = th.args[1]
		}
		delete(tr.fds, int(ret))
		if th.paths[0] == "" {
			return nil
		}
		tr.fds[int(ret)] = &openFD{path: th.paths[0]}
		if flags&unix.O_APPEND != 0 || flags&unix.O_TRUNC != 0 {
			return fmt.Errorf("%s is opened in a way that this test does not follow: %#x", th.paths[0], flags)
		}
		if flags&unix.O_CREAT != 0 {
			tr.add(diskEvent{kind: diskCreate, path: th.paths[0], fd: int(ret)})
		} else {
			tr.add(diskEvent{kind: diskOpen, path: th.paths[0], fd: int(ret)})
		}
	case unix.SYS_WRITE:
		if fd == 1 {
			tr.add(diskEvent{kind: diskSaid, data: th.data})
		} else if f != nil {
			tr.add(diskEvent{kind: diskWrite, path: f.path, fd: fd, data: th.data[:ret], at: f.pos})
			f.pos += ret
		}
	case unix.SYS_PWRITE64:
		if f != nil {
			tr.add(diskEvent{kind: diskWrite, path: f.path, fd: fd, data: th.data[:ret], at: int64(th.args[3])})
		}
	case unix.SYS_LSEEK:
		if f != nil {
			f.pos = ret
		}
	case unix.SYS_READ:
		if f != nil {
			f.pos += ret
		}
	case unix.SYS_FTRUNCATE:
		if f != nil {
			tr.add(diskEvent{kind: diskTruncate, path: f.path, fd: fd, at: int64(th.args[1])})
		}
	case unix.SYS_FALLOCATE:
		if f != nil {
			tr.add(diskEvent{kind: diskReserve, path: f.path, fd: fd, at: int64(th.args[2] + th.args[3])})
		}
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		if f != nil {
			tr.add(diskEvent{kind: diskSync, path: f.path, fd: fd, mark: th.mark})
		}
	case unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		tr.add(diskEvent{kind: diskRename, path: th.paths[0], to: th.paths[1]})
	case unix.SYS_LINK, unix.SYS_LINKAT:
		tr.add(diskEvent{kind: diskLink, path: th.paths[0], to: th.paths[1]})
	case unix.SYS_UNLINK, unix.SYS_UNLINKAT, unix.SYS_RMDIR:
		if th.paths[0] != "" {
			tr.add(diskEvent{kind: diskRemove, path: th.paths[0]})
		}
	case unix.SYS_MKDIR, unix.SYS_MKDIRAT:
		if th.paths[0] != "" {
			tr.add(diskEvent{kind: diskMkdir, path: th.paths[0]})
		}
	case unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_PWRITEV2, unix.SYS_COPY_FILE_RANGE, unix.SYS_SENDFILE, unix.SYS_OPENAT2, unix.SYS_TRUNCATE:
		if f != nil || th.nr == unix.SYS_TRUNCATE || th.nr == unix.SYS_OPENAT2 {
			return fmt.Errorf("system call %d is not one that this test follows", th.nr)
		}
	}
	return nil
}
