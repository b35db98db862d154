package server

import (
	"errors"
	"net/http"
	"os"
	"time"
)

// patient gives the caller time to take what is written next. Every answer
// asks for it before it writes, and nobody takes it back: what net/http still
// has to write when a handler has returned would otherwise wait for as long as
// the caller likes. Before the next request net/http does that.
func (x *exchange) patient() {
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(x.h.taking)) // in memory there is none to set
}

// untaken says of an answer that could not be written that its reader was too
// slow; "" where it failed for another reason.
func untaken(err error, patience time.Duration) string {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	return "broken off: the reader took nothing for " + patience.String()
}
