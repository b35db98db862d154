package term

import (
	"bytes"
	"context"
	"os"
	"testing"
)

func TestUnread(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, f := range []any{w, file, new(bytes.Buffer), (*os.File)(nil)} {
		if Unread(ended, f) {
			t.Errorf("%T: nobody reads it", f)
		}
	}
	said := make(chan bool)
	go func() { said <- Unread(t.Context(), w) }()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if !<-said {
		t.Error("the pipe is read")
	}
}
