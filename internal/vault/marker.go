package vault

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"moldable.sh/aivault/internal/durable"
	"moldable.sh/aivault/internal/strictjson"
)

// marker is $VAULT/locked: it locks the vault for every process that looks,
// now or from a time on. One that cannot be understood means locked.
type marker struct {
	path string
	last atomic.Pointer[markerSeen]
}

type markerSeen struct {
	id     fileID
	fromMs int64
}

type markerFile struct {
	Version int   `json:"aivaultLocked"`
	FromMs  int64 `json:"fromMs"` // 0: since ever
}

// read says whether there is a marker, and from when on it locks.
func (m *marker) read() (fromMs int64, present bool) {
	var st unix.Stat_t
	err := unix.Lstat(m.path, &st)
	for err == unix.EINTR {
		err = unix.Lstat(m.path, &st)
	}
	if err == unix.ENOENT {
		return 0, false
	}
	if err != nil {
		return 0, true
	}
	id := idOf(&st)
	if seen := m.last.Load(); seen != nil && seen.id == id {
		return seen.fromMs, true
	}
	fromMs, ok := m.parse()
	if ok {
		m.last.Store(&markerSeen{id, fromMs})
	}
	return fromMs, true
}

// parse returns 0, since ever, for whatever it cannot understand.
func (m *marker) parse() (fromMs int64, ok bool) {
	if durable.CheckPrivate(m.path) != nil {
		return 0, false
	}
	f, err := os.OpenFile(m.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1024))
	var mf markerFile
	if err != nil || strictjson.Unmarshal(data, &mf) != nil || mf.Version != 1 || mf.FromMs < 0 {
		return 0, false
	}
	return mf.FromMs, true
}

// locked is the question of every call: one stat when nothing changed.
func (m *marker) locked(now time.Time) bool {
	fromMs, present := m.read()
	return present && fromMs <= now.UnixMilli()
}

// set locks from a time on; 0 is at once.
func (m *marker) set(fromMs int64) error {
	data, err := strictjson.Marshal(markerFile{1, fromMs})
	if err != nil {
		return err
	}
	m.last.Store(nil)
	if err := durable.RemoveTemp(m.path); err != nil {
		return err
	}
	return durable.WriteFile(m.path, data)
}

func (m *marker) clear() error {
	m.last.Store(nil)
	if err := os.Remove(m.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(m.path))
}
