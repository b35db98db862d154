package quota

import (
	"bytes"
	"slices"
	"strconv"
)

// count is the starts of one key, oldest first.
type count struct {
	key    string
	starts []int64
	// text is the starts as they are written, with commas between them; nil
	// when it has to be made. A call adds one number to thousands that stay.
	text []byte
}

// live is the part of the starts that is in the window that ends now.
func (c *count) live(now int64) []int64 {
	i, _ := slices.BinarySearch(c.starts, now-window+1)
	return c.starts[i:]
}

func (c *count) add(start int64) {
	if c.text != nil {
		c.text = strconv.AppendInt(append(c.text, ','), start, 10)
	}
	c.starts = append(c.starts, start)
}

// keep forgets all but the newest n starts.
func (c *count) keep(n int) {
	drop := max(0, len(c.starts)-n)
	c.starts = c.starts[drop:]
	if len(c.starts) == 0 {
		c.text = nil
	}
	for ; drop > 0 && c.text != nil; drop-- {
		c.text = c.text[bytes.IndexByte(c.text, ',')+1:]
	}
}

// shift moves the starts by so many nanoseconds.
func (c *count) shift(by int64) {
	for i := range c.starts {
		c.starts[i] += by
	}
	c.text = nil
}

func (c *count) encoded() []byte {
	if c.text == nil {
		for i, s := range c.starts {
			if i > 0 {
				c.text = append(c.text, ',')
			}
			c.text = strconv.AppendInt(c.text, s, 10)
		}
	}
	return c.text
}
