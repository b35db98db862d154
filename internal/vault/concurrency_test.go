package vault

import (
	"fmt"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/secret"
)

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o600) }

func record(object string) audit.Record {
	return audit.Record{Event: audit.SecretUpdated, Object: object}
}

// Two processes' worth of writers, readers and a rotation at once: nothing is
// lost, nothing doubled, and the log is one chain.
func TestConcurrentUpdates(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	vaults := []*Vault{v, open(t, cfg)}
	const each = 20
	var wg sync.WaitGroup
	done := make(chan struct{})
	for n, x := range vaults {
		for i := range each {
			wg.Go(func() {
				id := fmt.Sprintf("s-%d-%d", n, i)
				s, err := tryPut(t.Context(), x, id, "value of "+id)
				if err != nil {
					t.Errorf("put %s: %v", id, err)
				} else if s.Secret(id) == nil {
					t.Errorf("%s is not in the snapshot of its own change", id)
				}
			})
		}
	}
	wg.Go(func() {
		for range 3 {
			if err := vaults[1].Rotate(t.Context(), who, keysource.Request{Provider: keysource.File}); err != nil {
				t.Errorf("rotate: %v", err)
			}
		}
	})
	var readers sync.WaitGroup
	for _, x := range vaults {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				s, err := x.Snapshot(t.Context())
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				for _, sec := range s.State().Secrets {
					got, err := s.Open(sec.ID)
					if err != nil || string(got.Expose()) != "value of "+sec.ID {
						t.Errorf("open %s: %v", sec.ID, err)
						return
					}
					got.Wipe()
				}
			}
		})
	}
	wg.Wait()
	close(done)
	readers.Wait()
	s := mustSnapshot(t, open(t, cfg))
	if n := len(s.State().Secrets); n != 2*each || s.Generation() != 1+2*each+3 {
		t.Errorf("%d secrets at generation %d", n, s.Generation())
	}
	committed := 0
	for _, e := range events(t, v) {
		if e == audit.VaultCommitted {
			committed++
		}
	}
	if committed != int(s.Generation()) {
		t.Errorf("%d commits in the log, generation %d", committed, s.Generation())
	}
}

// Locking while calls and changes run: each one succeeds whole or is told
// that the vault is locked.
func TestLockWhileInUse(t *testing.T) {
	t.Parallel()
	v, cfg := fileVault(t)
	put(t, v, "one", "1")
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				var err error
				if i == 0 {
					_, err = tryPut(t.Context(), v, fmt.Sprint("s", n), "x")
				} else if s, e := v.Snapshot(t.Context()); e != nil {
					err = e
				} else {
					var got secret.Value
					if got, err = s.Open("one"); err == nil && string(got.Expose()) != "1" {
						t.Errorf("a wrong value: %q", got.Expose())
					}
				}
				if err != nil && api.CodeOf(err) != api.VaultLocked {
					t.Errorf("error = %v", err)
					return
				}
			}
		})
	}
	for range 10 {
		must(t, v.Lock(t.Context(), who))
		unlock(t, v, keysource.Material{}, true)
	}
	close(done)
	wg.Wait()
	wantValue(t, open(t, cfg), "one", "1")
}

// Any sequence of changes, rotations, locks and restarts agrees with a map.
func TestAgainstAModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		root := t.TempDir()
		cfg := victimConfig(root)
		v := New(cfg)
		defer func() { must(t, v.Close()) }()
		ctx := t.Context()
		check := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		model := map[string]string{}
		locked := false
		r := keysource.Request{Provider: keysource.File}
		check(v.Init(ctx, who, r))
		generation := uint64(1)
		same := func() {
			s, err := v.Snapshot(ctx)
			if locked {
				if api.CodeOf(err) != api.VaultLocked {
					rt.Fatalf("locked, and yet: %v", err)
				}
				return
			}
			check(err)
			if s.Generation() != generation || len(s.State().Secrets) != len(model) {
				rt.Fatalf("generation %d, %d secrets; want %d, %d", s.Generation(), len(s.State().Secrets), generation, len(model))
			}
			for id, want := range model {
				got, err := s.Open(id)
				check(err)
				if string(got.Expose()) != want {
					rt.Fatalf("%s = %q, want %q", id, got.Expose(), want)
				}
			}
		}
		change := func(fn func(tx *Tx) error) bool {
			_, err := v.Update(ctx, record("x"), fn)
			if locked {
				if api.CodeOf(err) != api.VaultLocked {
					rt.Fatalf("changed while locked: %v", err)
				}
				return false
			}
			check(err)
			generation++
			return true
		}
		id := rapid.StringMatching(`[abc]`)
		rt.Repeat(map[string]func(*rapid.T){
			"set": func(rt *rapid.T) {
				id, value := id.Draw(rt, "id"), rapid.StringN(1, 20, -1).Draw(rt, "value")
				if change(func(tx *Tx) error {
					for i := range tx.State.Secrets {
						if s := &tx.State.Secrets[i]; s.ID == id {
							s.Version++
							return tx.Seal(s, secret.FromString(value))
						}
					}
					s := Secret{ID: id, Scope: "global", Version: 1}
					err := tx.Seal(&s, secret.FromString(value))
					tx.State.Secrets = append(tx.State.Secrets, s)
					return err
				}) {
					model[id] = value
				}
			},
			"delete": func(rt *rapid.T) {
				id := id.Draw(rt, "id")
				if change(func(tx *Tx) error {
					kept := tx.State.Secrets[:0]
					for _, s := range tx.State.Secrets {
						if s.ID != id {
							kept = append(kept, s)
						}
					}
					tx.State.Secrets = kept
					return nil
				}) {
					delete(model, id)
				}
			},
			"rotate": func(rt *rapid.T) {
				next := rapid.SampledFrom(rotations(root)).Draw(rt, "provider")
				err := v.Rotate(ctx, who, next)
				if locked {
					if api.CodeOf(err) != api.VaultLocked {
						rt.Fatalf("rotated while locked: %v", err)
					}
					return
				}
				if api.CodeOf(err) == api.InvalidRequest && next.Provider == keysource.Env {
					return // the key in use
				}
				check(err)
				r = next
				generation++
			},
			"lock": func(rt *rapid.T) {
				check(v.Lock(ctx, who))
				locked = true
			},
			"unlock": func(rt *rapid.T) {
				_, err := v.Unlock(ctx, who, r.Material, 0)
				check(err)
				locked = false
			},
			"restart": func(rt *rapid.T) {
				check(v.Close())
				v = New(cfg)
				locked = locked || r.Provider != keysource.File
			},
			"": func(*rapid.T) { same() },
		})
	})
}
