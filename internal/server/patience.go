package server

import (
	"net/http"
	"time"
)

// patient gives the caller time to take what is written next. Every answer
// asks for it before it writes, and nobody takes it back: what net/http still
// has to write when a handler has returned would otherwise wait for as long as
// the caller likes. Before the next request net/http does that.
func (x *exchange) patient() {
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(x.h.taking)) // in memory there is none to set
}
