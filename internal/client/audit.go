package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
)

// Audit returns the newest records of the audit log that q picks, oldest
// first.
func (c *Client) Audit(ctx context.Context, q audit.Query) (api.AuditList, error) {
	return ask[api.AuditList](ctx, c, c.operator, get, queried(api.RouteAudit, q), nil)
}

// ExportAudit calls fn with everything that q picks, a line each without its
// newline, valid during the call.
func (c *Client) ExportAudit(ctx context.Context, q audit.Query, fn func(line []byte) error) error {
	return c.auditLines(ctx, queried(api.RouteAuditExport, q), fn)
}

// FollowAudit calls fn with the newest Limit records that q picks, and then
// with those that come, until ctx ends, fn fails or the daemon leaves.
func (c *Client) FollowAudit(ctx context.Context, q audit.Query, fn func(line []byte) error) error {
	err := c.auditLines(ctx, queried(api.RouteAuditFollow, q), fn)
	if err == nil {
		err = api.Errorf(api.DaemonUnreachable, "the daemon is gone: nobody tells of new records any more").WithHint("aivault audit --follow")
	}
	return err
}

// queried is a route with what of the log is asked for.
func queried(route string, q audit.Query) string {
	v := url.Values{}
	number := func(name string, n int64) {
		if n != 0 {
			v.Set(name, strconv.FormatInt(n, 10))
		}
	}
	text := func(name, s string) {
		if s != "" {
			v.Set(name, s)
		}
	}
	number("limit", int64(q.Limit))
	number("sinceMs", q.SinceMs)
	number("untilMs", q.UntilMs)
	number("beforeMs", q.BeforeMs)
	text("capability", q.Capability)
	text("caller", q.Caller)
	if q.Denied {
		v.Set("denied", "true")
	}
	if len(v) > 0 {
		route += "?" + v.Encode()
	}
	return route
}

// auditLines reads an answer of many lines as they come: that may take any
// time, and has any length.
func (c *Client) auditLines(ctx context.Context, path string, fn func(line []byte) error) error {
	resp, err := c.send(ctx, c.operator, get, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return readAnswer(resp, nil)
	}
	lines := bufio.NewReaderSize(&answerBody{ctx: ctx, resp: resp, lost: api.DaemonUnreachable}, 64<<10) // longer than a line can be
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, io.EOF), errors.Is(err, bufio.ErrBufferFull):
			return api.Errorf(api.DaemonUnreachable, "the daemon's answer broke off before its end")
		default:
			return err
		}
		if err := fn(line[:len(line)-1]); err != nil {
			return err
		}
	}
}
