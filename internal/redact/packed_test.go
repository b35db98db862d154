package redact

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

// pack packs plain in each way that is looked into.
func pack(t testing.TB, format string, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch format {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "gzip, stored":
		w, _ = gzip.NewWriterLevel(&out, gzip.NoCompression)
	case "gzip, with a name":
		g := gzip.NewWriter(&out)
		g.Name, g.Comment, g.Extra = "name.txt", "a comment", []byte("extra")
		w = g
	case "zlib":
		w = zlib.NewWriter(&out)
	case "zlib, fast":
		w, _ = zlib.NewWriterLevel(&out, zlib.BestSpeed)
	case "zstd":
		w, _ = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	case "zstd, no sums":
		w, _ = zstd.NewWriter(&out, zstd.WithEncoderCRC(false), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	default:
		t.Fatal(format)
	}
	_, _ = w.Write(plain)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// looking scrubs a text of each of the sets.
func looking(sets ...*Set) func(io.Reader) Scrubbed {
	return func(text io.Reader) Scrubbed {
		var all scrubbedOf
		for _, s := range sets {
			r := s.Events(text)
			all, text = append(all, r), r
		}
		return all
	}
}

type scrubbedOf []*Reader

func (a scrubbedOf) Read(p []byte) (int, error) { return a[len(a)-1].Read(p) }

func (a scrubbedOf) Redactions() (n int) {
	for _, r := range a {
		n += r.Redactions()
	}
	return n
}

func packings() []string {
	return []string{"gzip", "gzip, stored", "gzip, with a name", "zlib", "zlib, fast", "zstd", "zstd, no sums"}
}

const packedSecret = "sk-proj-Ab3dEf6hIj9kLm2nOp5q"

// noisy is about n bytes of text that packs badly, so that little of it is
// enough for several blocks.
func noisy(rng *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%x ", rng.Uint64())
	}
	return b.String()
}

// Every packing passes on unchanged where it is clean, and breaks off where
// the secret is in it, wherever that stands and however the body comes.
func TestPacked(t *testing.T) {
	set := newSet(packedSecret, "another-value-1")
	rng := rand.New(rand.NewPCG(2, 3))
	far := noisy(rng, 80<<10)
	texts := map[string]string{
		"alone": packedSecret, "short": "it is " + packedSecret + ".\n", "far": far + packedSecret + far, "at the end": far + packedSecret,
		"escaped": strings.ReplaceAll(`{"k":"`+packedSecret+`"}`, "-", `\u002d`), "over lines of data": "data: sk-proj-Ab3d\ndata: Ef6hIj9kLm2nOp5q\n\n",
	}
	for _, format := range packings() {
		for name, text := range texts {
			body := pack(t, format, []byte(text))
			for how, r := range readers(body) {
				got, err := io.ReadAll(Packed(r, looking(&Set{}, set)))
				if !errors.Is(err, ErrPackedEcho) {
					t.Errorf("%s, %s, %s: %v", format, name, how, err)
				}
				if !bytes.HasPrefix(body, got) || len(got) > len(body)-len(packedSecret)/2 && name != "far" {
					t.Errorf("%s, %s, %s: %d of %d bytes were passed on", format, name, how, len(got), len(body))
				}
			}
			clean := pack(t, format, []byte(strings.NewReplacer("sk-", "sK-", "sk", "sK", "data: Ef6", "data: 0f6").Replace(text)))
			for how, r := range readers(clean) {
				got, err := io.ReadAll(Packed(r, looking(set)))
				if err != nil || !bytes.Equal(got, clean) {
					t.Errorf("%s, %s, %s, clean: %d of %d bytes, %v", format, name, how, len(got), len(clean), err)
				}
			}
		}
	}
}

func readers(body []byte) map[string]io.Reader {
	all := map[string]io.Reader{"halves": iotest.HalfReader(bytes.NewReader(body))}
	if len(body) < 8<<10 {
		all = map[string]io.Reader{
			"whole": bytes.NewReader(body), "halves": iotest.HalfReader(bytes.NewReader(body)), "end with the data": iotest.DataErrReader(bytes.NewReader(body)),
		}
	}
	if len(body) < 1<<10 {
		all["byte by byte"] = iotest.OneByteReader(bytes.NewReader(body))
	}
	return all
}

// Packed parts within packed parts, behind one another, behind zeros, and
// where a careful reader would find fault with a checksum.
func TestPackedDeeper(t *testing.T) {
	set := newSet(packedSecret)
	text := []byte("it is " + packedSecret + ".")
	for _, outer := range packings() {
		for _, inner := range packings() {
			if _, err := io.ReadAll(Packed(bytes.NewReader(pack(t, outer, pack(t, inner, text))), looking(set))); !errors.Is(err, ErrPackedEcho) {
				t.Errorf("%s within %s: %v", inner, outer, err)
			}
			harmless := pack(t, outer, []byte("nothing"))
			behind := append(bytes.Clone(harmless), pack(t, inner, text)...)
			if strings.HasPrefix(outer, "zstd") && !strings.HasPrefix(inner, "zstd") {
				continue // no reader of zstd goes on there
			}
			if got, err := io.ReadAll(Packed(bytes.NewReader(behind), looking(set))); !errors.Is(err, ErrPackedEcho) || !bytes.HasPrefix(behind, got) {
				t.Errorf("%s behind %s: %v", inner, outer, err)
			}
		}
	}
	gz := pack(t, "gzip", text)
	sum := bytes.Clone(gz)
	sum[len(sum)-5] ^= 1
	wrong := pack(t, "zstd", text)
	wrong[len(wrong)-1] ^= 1
	header := append([]byte{0x1f, 0x8b, 8, gzipHeaderSum, 0, 0, 0, 0, 0, 3, 0xaa, 0xbb}, gz[10:]...)
	z := pack(t, "zlib", text)
	for name, body := range map[string][]byte{
		"behind zeros":                 append(append(pack(t, "gzip", []byte("x")), make([]byte, 1000)...), gz...),
		"a wrong sum":                  sum,
		"a wrong header sum":           header,
		"a wrong sum of zstd":          wrong,
		"no sum":                       gz[:len(gz)-8],
		"zlib without a sum":           z[:len(z)-4],
		"behind a frame to be skipped": append([]byte{0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}, pack(t, "zstd", text)...),
		"other zlib header":            append([]byte{0x08, 0x1d}, z[2:]...),
		"cut short":                    gz[:len(gz)-9],
	} {
		if _, err := io.ReadAll(Packed(bytes.NewReader(body), looking(set))); !errors.Is(err, ErrPackedEcho) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A third layer is not undone: it is what an archive is, and named so.
	third := pack(t, "gzip", pack(t, "gzip", pack(t, "gzip", text)))
	if got, err := io.ReadAll(Packed(bytes.NewReader(third), looking(set))); err != nil || !bytes.Equal(got, third) {
		t.Errorf("three layers: %v", err)
	}
}

// What is not packed is passed on at once and unchanged, whatever it begins
// with.
func TestNotPacked(t *testing.T) {
	set := newSet(packedSecret)
	for _, text := range []string{
		"", "x", "{}", "data: {}\n\n", "\x1f", "\x1f\x8b", "\x1f\x8b\x08", "\x1f\x8b\x07 no gzip", "\x1f\x8b\x08\xff\xff", "(", "(\xb5", "(\xb5/", "(\xb5/x", "(S 1)",
		"P", "P*", "P*M", "P*M\x19", "Plain", "X", "X*", "XG", "XGA and EGA", "x", "x\x9c", "x^2", "x?", "HK$ 5", "hC", "8O", "x\x9c text that is no zlib at all",
		"\x78\xbb with a dictionary", strings.Repeat("x^2 ", 10_000), "\x1f\x8b\x08" + strings.Repeat("\xff", 100_000), "\x28\xb5\x2f\xfd" + strings.Repeat("no frame", 100),
		"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + strings.Repeat("\x07\xf0", 10_000),
		packedSecret + " as it stands is for others to find",
	} {
		for how, r := range readers([]byte(text)) {
			got, err := io.ReadAll(Packed(r, looking(set)))
			if err != nil || string(got) != text {
				t.Errorf("%.40q, %s: %d of %d bytes, %v", text, how, len(got), len(text), err)
			}
		}
		if len(text) < 1000 {
			if err := iotest.TestReader(Packed(strings.NewReader(text), looking(set)), []byte(text)); err != nil {
				t.Errorf("%.40q: %v", text, err)
			}
		}
	}
	// Events that are not packed do not wait for one another.
	pr, pw := io.Pipe()
	defer pw.Close()
	r, buf := Packed(pr, looking(set)), make([]byte, 4096)
	for range 3 {
		go pw.Write([]byte("data: {}\n\n"))
		if n, err := r.Read(buf); err != nil || string(buf[:n]) != "data: {}\n\n" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
}

// Whoever sees what was passed on so far, at any moment, can unpack no part
// of a secret that is still to come.
func TestPackedShowsNoBeginning(t *testing.T) {
	set := newSet(packedSecret)
	rng := rand.New(rand.NewPCG(4, 5))
	for _, before := range []int{100, 33_000, 300_000} {
		text := []byte(noisy(rng, before) + packedSecret + noisy(rng, 40_000))
		for _, format := range packings() {
			body := pack(t, format, text)
			var given []byte
			r := Packed(&slow{b: body, step: 509}, looking(set))
			buf := make([]byte, 700)
			for {
				n, err := r.Read(buf)
				given = append(given, buf[:n]...)
				if err != nil {
					if !errors.Is(err, ErrPackedEcho) {
						t.Fatalf("%s behind %d bytes: %v", format, before, err)
					}
					break
				}
			}
			if shown := careless(format, given); bytes.Contains(shown, []byte(packedSecret[:4])) {
				t.Errorf("%s behind %d bytes: %d of %d bytes were passed on, and show %q", format, before, len(given), len(body), shown[max(0, len(shown)-60):])
			} else if before == 300_000 && len(given) == 0 {
				t.Errorf("%s behind %d bytes: nothing was passed on", format, before)
			}
		}
	}
}

// cycle is a text again and again.
type cycle struct {
	text string
	at   int
}

func (c *cycle) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.text[c.at]
		c.at = (c.at + 1) % len(c.text)
	}
	return len(p), nil
}

type slow struct {
	b    []byte
	step int
}

func (s *slow) Read(b []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), s.step)], s.b)
	s.b = s.b[n:]
	return n, nil
}

// careless unpacks what it can of a part that was cut off.
func careless(format string, b []byte) []byte {
	var r io.Reader
	switch format[:4] {
	case "zlib":
		r = flate.NewReader(bytes.NewReader(b[min(2, len(b)):]))
	case "gzip":
		head := 10
		if format == "gzip, with a name" {
			head += 2 + len("extra") + len("name.txt") + 1 + len("a comment") + 1
		}
		r = flate.NewReader(bytes.NewReader(b[min(head, len(b)):]))
	default:
		d, err := zstd.NewReader(bytes.NewReader(b), zstd.IgnoreChecksum(true), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil
		}
		defer d.Close()
		r = d
	}
	out, _ := io.ReadAll(r)
	return out
}

func TestPackedBounds(t *testing.T) {
	set := newSet(packedSecret)
	zeros := make([]byte, 3<<20)
	for _, format := range []string{"gzip", "zlib", "zstd"} {
		bomb := pack(t, format, zeros)
		if _, err := io.ReadAll(Packed(bytes.NewReader(bomb), looking(set))); !errors.Is(err, ErrBomb) {
			t.Errorf("%s bomb: %v", format, err)
		}
		if _, err := io.ReadAll(Packed(bytes.NewReader(pack(t, "gzip, stored", bomb)), looking(set))); !errors.Is(err, ErrBomb) {
			t.Errorf("%s bomb in gzip: %v", format, err)
		}
		small := pack(t, format, zeros[:1<<19])
		if got, err := io.ReadAll(Packed(bytes.NewReader(small), looking(set))); err != nil || !bytes.Equal(got, small) {
			t.Errorf("%s of half a megabyte of zeros: %v", format, err)
		}
	}
	again := func(text string) io.Reader { return io.LimitReader(&cycle{text: text}, 1<<26) }
	for name, body := range map[string]io.Reader{
		"a wide window":                  bytes.NewReader([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x80, 9, 0, 0, 'x'}), // of 64 MiB
		"a dictionary":                   bytes.NewReader([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x58, 0x07, 0, 0, 0}),
		"a frame to be skipped, endless": io.MultiReader(bytes.NewReader([]byte{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff}), again("x")),
		"empty blocks":                   io.MultiReader(strings.NewReader("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"), again("\x00\x00\x00\xff\xff")),
		"an endless name":                io.MultiReader(strings.NewReader("\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x03"), again("name")),
	} {
		got, err := io.ReadAll(Packed(body, looking(set)))
		if !errors.Is(err, ErrUnchecked) || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// What breaks off passes on nothing that was not seen to be clean, and says
// why it broke off.
func TestPackedBreaksOff(t *testing.T) {
	set := newSet(packedSecret)
	boom := errors.New("boom")
	before := runtime.NumGoroutine()
	for _, format := range packings() {
		body := pack(t, format, []byte("it is "+packedSecret))
		for cut := range len(body) {
			got, err := io.ReadAll(Packed(io.MultiReader(bytes.NewReader(body[:cut]), iotest.ErrReader(boom)), looking(set)))
			if !errors.Is(err, boom) && !errors.Is(err, ErrPackedEcho) || cut > 8 && bytes.Contains(careless(format, got), []byte("sk-p")) {
				t.Errorf("%s, cut after %d: %d bytes, %v", format, cut, len(got), err)
			}
		}
	}
	for range 100 { // a decoder that is left behind must not run on
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines, there were %d", runtime.NumGoroutine(), before)
}

// FuzzPacked: no body panics what unpacks it, a body is passed on as it came
// or broken off, and what is passed on whole unpacks to nothing that is
// scrubbed.
func FuzzPacked(f *testing.F) {
	for _, format := range packings() {
		f.Add(pack(f, format, []byte("it is "+packedSecret)))
		f.Add(pack(f, format, []byte("it is clean")))
		f.Add(pack(f, "gzip", pack(f, format, []byte("in it "+packedSecret))))
	}
	f.Add([]byte("x^2 is no zlib"))
	set := newSet(packedSecret)
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := io.ReadAll(Packed(bytes.NewReader(body), looking(set)))
		slowly, slowErr := io.ReadAll(Packed(iotest.OneByteReader(bytes.NewReader(body)), looking(set)))
		if !errors.Is(slowErr, err) || err == nil && !bytes.Equal(got, slowly) {
			t.Fatalf("%v, and byte by byte %v", err, slowErr)
		}
		if !bytes.HasPrefix(body, got) || !bytes.HasPrefix(body, slowly) || err == nil && len(got) != len(body) {
			t.Fatalf("%d of %d bytes, changed: %v", len(got), len(body), err)
		}
		if err != nil && !errors.Is(err, ErrPackedEcho) && !errors.Is(err, ErrBomb) && !errors.Is(err, ErrUnchecked) {
			t.Fatal(err)
		}
		r, openErr := gzip.NewReader(bytes.NewReader(got))
		if openErr != nil {
			return
		}
		text, _ := io.ReadAll(io.LimitReader(r, 1<<20))
		if bytes.Contains(text, []byte(packedSecret)) {
			t.Fatalf("%d bytes were passed on that unpack to the secret: %v", len(got), err)
		}
	})
}
