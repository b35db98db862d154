package vault

import (
	"bytes"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// diskEvent is what a process did to a file, after it succeeded.
type diskEvent struct {
	kind diskKind
	path string
	to   string // of a rename and a link
	fd   int
	at   int64 // where a write begins; the size that a truncation or reservation makes
	data []byte
	mark int // of a sync: the events that were over when it began; it covers no more
}

type diskKind int

const (
	diskOpen diskKind = iota
	diskCreate
	diskMkdir
	diskWrite
	diskTruncate
	diskReserve
	diskSync
	diskRename
	diskLink
	diskRemove
	diskSaid // on its standard output
)

// disk is what would be in the files, and what is certain to be after a power
// cut: for a file, what it held at its last fsync; for a name in a directory,
// what it stood for at the last fsync of the directory.
type disk struct {
	root string
	now  map[string]*node // names as the process sees them
	safe map[string]*node // names that are on disk
	fds  map[int]*node
	late map[string][]entry // per directory, not yet on disk, in order
}

// node is a file or a directory.
type node struct {
	dir  bool
	safe []byte
	late []change1
}

// change1 is what was done to a file and not yet synced.
type change1 struct {
	index int // of the event
	cut   bool
	at    int64
	data  []byte
}

// entry gives a name to a node, or (nil) takes it away.
type entry struct {
	index int
	path  string
	node  *node
}

func newDisk(root string) *disk {
	top := &node{dir: true}
	return &disk{root: root, now: map[string]*node{root: top}, safe: map[string]*node{root: top}, fds: map[int]*node{}, late: map[string][]entry{}}
}

func (d *disk) name(index int, path string, n *node) {
	if n == nil {
		delete(d.now, path)
	} else {
		d.now[path] = n
	}
	dir := filepath.Dir(path)
	d.late[dir] = append(d.late[dir], entry{index, path, n})
}

// apply says whether the event changes what a power cut can leave.
func (d *disk) apply(index int, e diskEvent) bool {
	switch e.kind {
	case diskOpen, diskCreate:
		n := d.now[e.path]
		if made := n == nil; made {
			n = &node{}
			d.name(index, e.path, n)
			d.fds[e.fd] = n
			return true
		}
		d.fds[e.fd] = n
		return false
	case diskMkdir:
		d.name(index, e.path, &node{dir: true})
	case diskWrite:
		n := d.fds[e.fd]
		n.late = append(n.late, change1{index: index, at: e.at, data: e.data})
	case diskTruncate:
		n := d.fds[e.fd]
		n.late = append(n.late, change1{index: index, cut: true, at: e.at})
	case diskSync:
		d.sync(e)
	case diskRename:
		d.name(index, e.to, d.now[e.path])
		d.name(index, e.path, nil)
	case diskLink:
		d.name(index, e.to, d.now[e.path])
	case diskRemove:
		d.name(index, e.path, nil)
	default:
		return false
	}
	return true
}

func (d *disk) sync(e diskEvent) {
	n := d.fds[e.fd]
	if !n.dir {
		for len(n.late) > 0 && n.late[0].index < e.mark {
			n.safe = n.late[0].onto(n.safe)
			n.late = n.late[1:]
		}
		return
	}
	late := d.late[e.path]
	for len(late) > 0 && late[0].index < e.mark {
		late[0].onto(d.safe)
		late = late[1:]
	}
	d.late[e.path] = late
}

func (c change1) onto(b []byte) []byte {
	if c.cut && int64(len(b)) > c.at {
		return slices.Clone(b[:c.at])
	}
	b = slices.Clone(b)
	if end := c.at + int64(len(c.data)); int64(len(b)) < end {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[c.at:], c.data)
	return b
}

func (e entry) onto(names map[string]*node) {
	if e.node == nil {
		delete(names, e.path)
	} else {
		names[e.path] = e.node
	}
}

// luck decides what of the things that are not on disk for sure gets there all
// the same.
type luck struct {
	name  string
	entry func(i, of int) bool           // the i-th of a directory's pending entries
	data  func(i, of int) (kept outcome) // the i-th of a file's pending changes
}

type outcome int

const (
	lost outcome = iota
	whole
	torn  // half of it
	zeros // its room, without its content
)

func always[T any](v T) func(int, int) T { return func(int, int) T { return v } }

func lucks(r *rand.Rand) []luck {
	last := func(before, it outcome) func(i, of int) outcome {
		return func(i, of int) outcome {
			if i == of-1 {
				return it
			}
			return before
		}
	}
	some := func(i, of int) bool { return r.IntN(2) == 0 }
	return []luck{
		{"nothing that was not synced", always(false), always(lost)},
		{"all", always(true), always(whole)},
		{"names without content", always(true), always(lost)},
		{"content without names", always(false), always(whole)},
		{"the last write torn", always(true), last(whole, torn)},
		{"sizes without content", always(true), always(zeros)},
		{"the last write lost", always(true), last(whole, lost)},
		{"any of it", some, func(i, of int) outcome { return outcome(r.IntN(4)) }},
	}
}

// left is what is found after a power cut, by path.
func (d *disk) left(l luck) map[string][]byte {
	names := maps.Clone(d.safe)
	for _, dir := range slices.Sorted(maps.Keys(d.late)) {
		late := d.late[dir]
		for i, e := range late {
			// A directory's changes reach the disk in order.
			if !l.entry(i, len(late)) {
				break
			}
			e.onto(names)
		}
	}
	out := map[string][]byte{}
	for path, n := range names {
		if !reachable(names, d.root, path) {
			continue
		}
		if n.dir {
			out[path+"/"] = nil
			continue
		}
		b := n.safe
		for i, c := range n.late {
			switch l.data(i, len(n.late)) {
			case lost:
				continue
			case torn:
				c.data = c.data[:len(c.data)/2]
			case zeros:
				c.data = make([]byte, len(c.data))
			}
			b = c.onto(b)
		}
		out[path] = b
	}
	return out
}

func reachable(names map[string]*node, root, path string) bool {
	for path != root {
		path = filepath.Dir(path)
		if n := names[path]; n == nil || !n.dir {
			return false
		}
	}
	return true
}

func fingerprint(files map[string][]byte) uint64 {
	h := fnv.New64a()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		h.Write([]byte(path))
		h.Write([]byte{0, byte(len(files[path])), byte(len(files[path]) >> 8)})
		h.Write(files[path])
	}
	return h.Sum64()
}

// put makes the files of one root in another directory.
func putFiles(t testing.TB, files map[string][]byte, from, to string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		target := to + path[len(from):]
		if path[len(path)-1] == '/' {
			must(t, os.MkdirAll(target, 0o700))
			must(t, os.Chmod(target, 0o700))
		} else {
			must(t, os.WriteFile(target, bytes.Clone(files[path]), 0o600))
		}
	}
}
