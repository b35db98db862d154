package api

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// ParseDuration reads a number of days, 1d to 65535d, or a duration as Go
// writes it: what people say of logs is days, which time.ParseDuration lacks.
func ParseDuration(s string) (time.Duration, error) {
	days, ok := strings.CutSuffix(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("a number of days is 1d to 65535d")
	}
	return time.Duration(n) * 24 * time.Hour, nil
}
