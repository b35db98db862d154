package vault

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/keysource"
)

const someHeader = `{"aivaultVault":1,"id":"aaaaaaaaaaaaaaaaaaaaaaaaaa","generation":1,"previous":"0000000000000000000000000000000000000000000000000000000000000000","used":false,"key":{"provider":"file","keyId":"k"},"rootKey":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`

// What parses is written again byte for byte.
func FuzzHeader(f *testing.F) {
	f.Add([]byte(someHeader))
	f.Add([]byte(`{"aivaultVault":1,"id":"aaaaaaaaaaaaaaaaaaaaaaaaaa","generation":1,"previous":"0000000000000000000000000000000000000000000000000000000000000000","used":true,"dev":true,"key":{"provider":"passphrase","keyId":"k","argon2id":{"memoryKiB":8192,"time":1,"parallelism":1,"salt":"AAAAAAAAAAAAAAAAAAAAAA"}},"rootKey":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		h, err := parseHeader(line)
		if err != nil {
			return
		}
		again, err := h.encode()
		if err != nil || !bytes.Equal(again, line) {
			t.Fatalf("%q was read, %q is written: %v", line, again, err)
		}
		if err := h.Key.Check(); err != nil || h.Generation == 0 || !validID(h.ID) {
			t.Fatalf("accepted %+v: %v", h, err)
		}
	})
}

func TestSomeHeaderParses(t *testing.T) {
	t.Parallel()
	if _, err := parseHeader([]byte(someHeader)); err != nil {
		t.Fatal(err)
	}
}

// Whatever the file holds: no panic, and an error that names the vault, unless
// it is the document itself.
func FuzzOpen(f *testing.F) {
	root := f.TempDir()
	cfg := victimConfig(root)
	v := New(cfg)
	must(f, v.Init(f.Context(), who, keysource.Request{Provider: keysource.File}))
	put(f, v, "one", "1")
	must(f, v.Close())
	path := filepath.Join(cfg.Dir, "vault.aiv")
	good, err := os.ReadFile(path)
	must(f, err)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(append(bytes.Clone(good), good...))
	f.Add([]byte(someHeader + "\n0123456789012345678901234567890123456789"))
	f.Fuzz(func(t *testing.T, file []byte) {
		cfg := cfg
		cfg.Store = &memStore{n: 1, blob: file}
		x := New(cfg)
		defer x.Close()
		_, err := x.Snapshot(t.Context())
		if (err == nil) != bytes.Equal(file, good) {
			t.Fatalf("error = %v, the same file: %v", err, bytes.Equal(file, good))
		}
		if err != nil && (api.CodeOf(err) == api.Internal || !bytes.Contains([]byte(err.Error()), []byte(cfg.Dir)) && api.CodeOf(err) != api.VaultLocked) {
			t.Fatalf("error = %v", err)
		}
	})
}
