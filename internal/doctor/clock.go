package doctor

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"

	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/vault"
)

// A clock that is corrected goes back by seconds.
const clockSlack = 2 * time.Minute

// clock says whether it runs behind what was written already: times of
// records, of tokens and of certificates mean little then.
func (e *exam) clock() {
	const id = "clock"
	if e.dir == "" || e.status.Vault.State == vault.None {
		return
	}
	now := e.cfg.Clock()
	var latest time.Time
	what := ""
	seen := func(t time.Time, of string) {
		if t.After(latest) {
			latest, what = t, of
		}
	}
	if info, err := os.Lstat(e.inVault("vault.aiv")); err == nil {
		seen(info.ModTime(), "the vault was written")
	}
	segments, _ := matching(e.inVault("audit"), "[0-9]*.jsonl")
	for _, path := range slices.Backward(segments) {
		if at, ok := lastRecord(path); ok {
			seen(at, "the last record of the audit log was made")
			break
		}
	}
	switch behind := latest.Sub(now); {
	case latest.IsZero():
		e.add(id, Skipped, "there is no time to compare the clock with", "")
	case behind > clockSlack:
		e.add(id, Problem, fmt.Sprintf("the clock says %s, but %s at %s", rfc3339(now), what, rfc3339(latest)), setClock())
	default:
		e.add(id, OK, "the clock is not behind what was written", "")
	}
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func setClock() string {
	if runtime.GOOS == "darwin" {
		return "sudo sntp -sS time.apple.com"
	}
	return "sudo timedatectl set-ntp true"
}

// lastRecord is the time of the last whole line of a segment.
func lastRecord(path string) (time.Time, bool) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe is not waited for
	if err != nil {
		return time.Time{}, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return time.Time{}, false
	}
	b := make([]byte, min(info.Size(), 16*audit.MaxLine))
	if _, err := f.ReadAt(b, info.Size()-int64(len(b))); err != nil && err != io.EOF {
		return time.Time{}, false
	}
	end := bytes.LastIndexByte(b, '\n')
	if end < 0 {
		return time.Time{}, false
	}
	line := b[bytes.LastIndexByte(b[:end], '\n')+1 : end]
	var record struct {
		AtMs int64 `json:"atMs"`
	}
	if json.Unmarshal(line, &record) != nil || record.AtMs <= 0 {
		return time.Time{}, false
	}
	return time.UnixMilli(record.AtMs), true
}
