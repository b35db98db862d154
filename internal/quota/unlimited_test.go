package quota_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"moldable.sh/aivault/internal/quota"
)

// A limit among any that has none lets everything through; what stands beside
// it is counted, and holds when it is left alone.
func TestAnUnlimitedOneOfAny(t *testing.T) {
	at := quota.Now{BootID: "boot", SinceBoot: time.Hour, Wall: time.Unix(1_800_000_000, 0)}
	b := quota.New(quota.Config{Path: filepath.Join(t.TempDir(), "limits"), Clock: func() (quota.Now, error) { return at, nil }})
	defer b.Close()
	ctx := context.Background()
	if err := b.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	two, free := quota.Demand{Key: "two", PerMinute: 2}, quota.Demand{Key: "free"}
	for range 10 {
		if err := b.Take(ctx, nil, []quota.Demand{free, two}); err != nil {
			t.Fatal(err)
		}
		at.SinceBoot += time.Second
	}
	var over *quota.Exceeded
	if err := b.Take(ctx, nil, []quota.Demand{two}); !errors.As(err, &over) || over.Wait != 58*time.Second {
		t.Errorf("%v", err)
	}
	// Of all that a call has to keep none may be without a limit.
	if err := b.Take(ctx, []quota.Demand{free}, nil); err == nil || errors.As(err, &over) {
		t.Errorf("a limit of 0: %v", err)
	}
}
