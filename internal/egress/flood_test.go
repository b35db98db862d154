package egress

import (
	"context"
	"io"
	"log"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"moldable.sh/aivault/internal/api"
)

// What an upstream may send as fast and as long as it likes holds up its own
// call alone: that ends when its caller wants it to, and the connection with
// it; meanwhile another upstream is called, and the memory stays as it was.
func TestFloodsHoldUpNobodyElse(t *testing.T) {
	before := log.Writer()
	log.SetOutput(io.Discard) // net/http complains of frames that it does not know
	t.Cleanup(func() { log.SetOutput(before) })
	other := startAPI(t, nil)
	for name, frame := range map[string]func(*http2.Framer, uint32) error{
		"pings": func(f *http2.Framer, _ uint32) error { return f.WritePing(false, [8]byte{1}) },
		"settings": func(f *http2.Framer, _ uint32) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 15})
		},
		"windows": func(f *http2.Framer, _ uint32) error { return f.WriteWindowUpdate(0, 1) },
		"resets of nothing": func(f *http2.Framer, id uint32) error {
			return f.WriteRSTStream(id+2, http2.ErrCodeCancel)
		},
		"priorities": func(f *http2.Framer, id uint32) error {
			return f.WritePriority(id, http2.PriorityParam{StreamDep: 0, Weight: 1})
		},
		"unknown frames": func(f *http2.Framer, id uint32) error { return f.WriteRawFrame(0xfa, 0, id, make([]byte, 100)) },
		"empty data": func() func(*http2.Framer, uint32) error {
			first := true
			return func(f *http2.Framer, id uint32) error {
				if first {
					first = false
					return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: block(":status", "200")})
				}
				return f.WriteData(id, false, nil)
			}
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, Config{})
			to := hostileHTTP2(t, frame)
			ctx, cancel := context.WithCancelCause(t.Context())
			ended := make(chan error, 1)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			go func() {
				resp, err := c.Send(ctx, to, request(t, "GET", "/"), Additions{}, Body{})
				if err == nil {
					_, err = resp.Body.Read(make([]byte, 100))
					resp.Body.Close()
				}
				ended <- err
			}()
			time.Sleep(150 * time.Millisecond)
			for range 5 {
				get(t, c, other.to, "/")
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if more := int64(after.HeapAlloc) - int64(before.HeapAlloc); more > 8<<20 {
				t.Errorf("the flood takes %d bytes", more)
			}
			cancel(api.Errorf(api.PolicyViolation, "it was revoked"))
			select {
			case err := <-ended:
				// Some floods are against the protocol, and end it at once.
				if code := api.CodeOf(err); code != api.PolicyViolation && code != api.UpstreamUnreachable {
					t.Errorf("it ended with %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("a call does not end")
			}
			// The test ends when the upstream can write no more: it may not go
			// on when nobody asks for anything.
		})
	}
}
