package redact

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// What several packed parts in a row unpack to is one text: a value that is
// cut by the border of two is found, wherever it is cut.
func TestAValueOverPackedParts(t *testing.T) {
	set := newSet(packedSecret)
	for _, format := range packings() {
		between := []string{"", "\x00", strings.Repeat("\x00", 2000)}
		if strings.HasPrefix(format, "zstd") {
			between = []string{"", "\x50\x2a\x4d\x18\x03\x00\x00\x00abc"}
		}
		for _, b := range between {
			for cut := 1; cut < len(packedSecret); cut++ {
				first, second := pack(t, format, []byte("it is "+packedSecret[:cut])), pack(t, format, []byte(packedSecret[cut:]+"."))
				body := append(append(bytes.Clone(first), b...), second...)
				for name, r := range map[string]io.Reader{"whole": bytes.NewReader(body), "byte by byte": iotest.OneByteReader(bytes.NewReader(body))} {
					got, err := io.ReadAll(Packed(r, looking(set)))
					if !errors.Is(err, ErrPackedEcho) || !bytes.HasPrefix(first, got) {
						t.Fatalf("%s, cut at %d, %d bytes between, %s: %d of %d bytes, %v", format, cut, len(b), name, len(got), len(first), err)
					}
				}
			}
		}
	}
}

// The part that ends a body may end like the beginning of a value, but not
// where the body breaks off behind it.
func TestPackedPartsThatEndLikeAValue(t *testing.T) {
	set := newSet(packedSecret)
	boom := errors.New("boom")
	for _, format := range packings() {
		body := pack(t, format, []byte(strings.Repeat("a text that is long enough. ", 20)+packedSecret[:12]))
		if got, err := io.ReadAll(Packed(bytes.NewReader(body), looking(set))); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %d of %d bytes, %v", format, len(got), len(body), err)
		}
		twice := append(bytes.Clone(body), body...)
		if got, err := io.ReadAll(Packed(bytes.NewReader(twice), looking(set))); err != nil || !bytes.Equal(got, twice) {
			t.Errorf("%s, twice: %d of %d bytes, %v", format, len(got), len(twice), err)
		}
		if got, err := io.ReadAll(Packed(io.MultiReader(bytes.NewReader(body), iotest.ErrReader(boom)), looking(set))); !errors.Is(err, boom) || len(got) == len(body) {
			t.Errorf("%s, broken off: %d of %d bytes, %v", format, len(got), len(body), err)
		}
	}
}

// A part is passed on when it has ended, before anything comes behind it.
func TestAPackedPartDoesNotWaitForTheNext(t *testing.T) {
	set := newSet(packedSecret)
	for _, format := range []string{"gzip", "zlib"} {
		pr, pw := io.Pipe()
		r := Packed(pr, looking(set))
		for i := range 3 {
			body := pack(t, format, []byte("part "+strings.Repeat("x", i)))
			go func() { _, _ = pw.Write(body) }()
			got := make([]byte, len(body))
			if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, body) {
				t.Fatalf("%s, part %d: %v", format, i, err)
			}
		}
		_ = pw.Close()
	}
}

// Behind many zeros another part is looked into, too, and they are passed on.
func TestZerosBetweenPackedParts(t *testing.T) {
	set := newSet(packedSecret)
	zeros := make([]byte, 3<<20)
	clean := append(pack(t, "gzip", []byte("clean")), zeros...)
	if got, err := io.ReadAll(Packed(bytes.NewReader(clean), looking(set))); err != nil || !bytes.Equal(got, clean) {
		t.Errorf("%d of %d bytes, %v", len(got), len(clean), err)
	}
	body := append(bytes.Clone(clean), pack(t, "gzip", []byte(packedSecret))...)
	if _, err := io.ReadAll(Packed(bytes.NewReader(body), looking(set))); !errors.Is(err, ErrPackedEcho) {
		t.Errorf("a secret behind zeros: %v", err)
	}
}
