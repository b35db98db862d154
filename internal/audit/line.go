package audit

import (
	"fmt"

	"moldable.sh/aivault/internal/strictjson"
)

// Line is one line of the log, read for people and filters. Nothing that
// checks the chain needs it.
type Line struct {
	Seq  uint64 `json:"seq"`
	Prev string `json:"prev"` // hash of the line before, hex
	AtMs int64  `json:"atMs"`
	Record
}

// ParseLine reads one line, without its newline.
func ParseLine(line []byte) (Line, error) {
	var l Line
	if err := strictjson.Unmarshal(line, &l); err != nil {
		return Line{}, fmt.Errorf("audit: read line: %w", err)
	}
	return l, nil
}
