package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/strictjson"
)

// maxAnswer bounds the daemon's own answers: ten thousand audit records fit.
const maxAnswer = 64 << 20

// host stands in the request line's Host field; a socket has none.
const host = "aivault"

// ask sends one request and decodes the daemon's answer.
func ask[Res any](ctx context.Context, c *Client, t *http.Transport, method, path string, body any) (res Res, err error) {
	err = c.unlocking(ctx, path, func() error {
		ctx, cancel := c.patience(ctx, method)
		defer cancel()
		resp, err := c.send(ctx, t, method, path, body)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return readAnswer(resp, &res)
	})
	c.tellDaemon(ctx, method, path) // after an error, too: the change may be in place
	return res, err
}

// readPatience is how long a daemon may take to say what it knows. What it
// changes may take longer: a passphrase costs its time, and so does a disk.
const readPatience = 10 * time.Second

// patience bounds the wait for a question's answer: status is what a person
// asks when a daemon hangs.
func (c *Client) patience(ctx context.Context, method string) (context.Context, context.CancelFunc) {
	if method != get || c.inside != nil {
		return ctx, func() {}
	}
	silent := api.Errorf(api.DaemonUnreachable, "the daemon at %q takes connections and does not answer", c.path)
	return context.WithTimeoutCause(ctx, cmp.Or(c.cfg.readPatience, readPatience), silent.WithHint("aivault restart"))
}

func (c *Client) send(ctx context.Context, t *http.Transport, method, path string, body any) (*http.Response, error) {
	req, err := newRequest(ctx, method, path)
	if err != nil {
		return nil, err
	}
	if body != nil {
		b, err := encode(body)
		if err != nil {
			return nil, err
		}
		req.Body = &wiped{b: b}
		req.ContentLength = int64(len(b))
		req.Header.Set("Content-Type", "application/json")
	}
	return c.roundTrip(t, req)
}

func newRequest(ctx context.Context, method, path string) (*http.Request, error) {
	u, err := url.Parse("http://" + host + path)
	if err != nil {
		return nil, api.Errorf(api.InvalidRequest, "client: %q is no path", path)
	}
	req := (&http.Request{Method: method, URL: u, Host: host, Header: http.Header{"User-Agent": {"aivault"}}}).WithContext(ctx)
	return req, nil
}

// roundTrip sends a request as it is: no redirect is followed, no header added.
func (c *Client) roundTrip(t *http.Transport, req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, c.transportError(req.Context(), err)
	}
	if _, err := strconv.Atoi(resp.Header.Get(api.HeaderAPI)); err != nil {
		resp.Body.Close()
		return nil, api.Errorf(api.DaemonUnreachable, "what answers at %q is no aivault daemon", c.path)
	}
	return resp, nil
}

func (c *Client) transportError(ctx context.Context, err error) error {
	if e := ended(ctx); e != nil {
		return e
	}
	var known *api.Error
	if errors.As(err, &known) {
		return known
	}
	why := "it has ended, or what it sent is no answer"
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		why = file.Error() // of what was to be sent
	}
	return api.Errorf(api.DaemonUnreachable, "the request to the daemon at %q broke off: %s", c.path, why).
		WithHint("aivault daemon status, or its log: aivault daemon logs")
}

// ended is why nobody waits for an answer any more, nil while somebody does.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	if known, ok := errors.AsType[*api.Error](context.Cause(ctx)); ok {
		return known
	}
	return ctx.Err()
}

func readAnswer(resp *http.Response, v any) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		if e := ended(resp.Request.Context()); e != nil {
			return e
		}
	}
	if err != nil || len(b) > maxAnswer {
		return api.Errorf(api.Internal, "the daemon's answer is incomplete or too long")
	}
	if resp.StatusCode != http.StatusOK {
		return errorOf(resp, b)
	}
	return decodeAnswer(resp, b, v)
}

// decodeAnswer is strict with a daemon of this version. A newer one may have
// added fields, which this program then does not know.
func decodeAnswer(resp *http.Response, b []byte, v any) error {
	var err error
	if version(resp) > api.Version {
		err = json.Unmarshal(b, v)
	} else {
		err = strictjson.Unmarshal(b, v)
	}
	if err != nil {
		return api.Errorf(api.Internal, "the daemon's answer cannot be read: %w", err)
	}
	return nil
}

func version(resp *http.Response) int {
	n, _ := strconv.Atoi(resp.Header.Get(api.HeaderAPI)) // checked by roundTrip
	return n
}

// errorOf is the error that the daemon answered with.
func errorOf(resp *http.Response, b []byte) error {
	var e api.Error
	if decodeAnswer(resp, b, &e) != nil || e.Code == "" {
		return api.Errorf(api.Internal, "the daemon answered with status %d and no reason", resp.StatusCode)
	}
	if e.Code == api.InvalidRequest && version(resp) < api.Version && unknownThere(resp.StatusCode, e.Message) {
		return api.Errorf(api.InvalidRequest, "the running daemon is older than this program and does not know this command, or a flag of it").
			WithHint("aivault daemon restart")
	}
	return &e
}

// unknownThere says whether an older daemon refused what it has no word for:
// a route, a method of one that its other routes look like, or a field.
func unknownThere(status int, message string) bool {
	return status == http.StatusNotFound || status == http.StatusMethodNotAllowed ||
		strings.HasPrefix(message, "the request cannot be read: ") && strings.HasSuffix(message, " is not known")
}

// escape makes one path segment of a reference.
func escape(ref string) string {
	switch ref {
	case ".", "..": // url.PathEscape leaves them, and they would mean a directory
		return strings.ReplaceAll(ref, ".", "%2E")
	}
	return url.PathEscape(ref)
}
