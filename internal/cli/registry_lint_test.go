package cli

import (
	"context"
	"testing"
)

// A file that takes long to judge can be broken off.
func TestUntilDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	begun, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	go func() { <-begun; cancel() }()
	if err := untilDone(ctx, func() { close(begun); <-end }); err != context.Canceled {
		t.Errorf("broken off: %v", err)
	}
	ran := false
	if err := untilDone(t.Context(), func() { ran = true }); err != nil || !ran {
		t.Errorf("%v %v", err, ran)
	}
}
