package audit

import "context"

// A Query picks records. The zero Query picks all.
type Query struct {
	Limit      int    // the newest so many; 0: all
	SinceMs    int64  // at or after
	UntilMs    int64  // at or before; 0: no end
	BeforeMs   int64  // before: the next page of older ones; 0: no end
	Capability string // a pattern as of grants: openai/chat-completions, openai/*; of capability or set
	Caller     string // a uid or a user's name
	Denied     bool   // refusals alone
}

// Find returns the lines that q picks, oldest first. It reads the log from its
// end, no further than it must, and checks nothing: of a log that was tampered
// with it shows what is there.
func (l *Log) Find(q Query) ([][]byte, error) { panic("contract") }

// Export calls fn with the lines that q picks, oldest first, over all that is
// kept of the log, checking that each line follows. Memory does not grow with
// the log. The line is valid only during the call.
func (l *Log) Export(ctx context.Context, q Query, fn func(line []byte) error) error {
	panic("contract")
}

// Follow calls fn with the lines that q picks as they are appended, by
// whatever process, until ctx ends or fn fails. It begins behind the line that
// is the last when it is called.
func (l *Log) Follow(ctx context.Context, q Query, fn func(line []byte) error) error {
	panic("contract")
}
