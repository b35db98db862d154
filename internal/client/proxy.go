package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// Body is a call's body. Length -1: unknown.
type Body struct {
	Reader io.Reader
	Length int64
}

// Answer is an upstream's answer. Body must be closed. A Read that ends with
// an *api.Error tells what broke the answer off.
type Answer struct {
	Planned api.Planned
	Status  int
	Header  http.Header
	Body    io.ReadCloser
}

// Proxy makes a call. With body.Reader nil the envelope's own body is sent.
func (c *Client) Proxy(ctx context.Context, call api.Call, body Body) (a *Answer, err error) {
	if body.Reader != nil {
		// Such a body can be sent once: what a person must give is asked for
		// before, not after a refusal.
		if err := c.unlockFirst(ctx); err != nil {
			return nil, err
		}
		resp, err := c.sendCall(ctx, api.RouteProxy, call, body)
		if err != nil {
			return nil, err
		}
		return answerOf(ctx, resp)
	}
	err = c.unlocking(ctx, api.RouteProxy, func() error {
		resp, err := c.send(ctx, c.calls, http.MethodPost, api.RouteProxy, call)
		if err != nil {
			return err
		}
		a, err = answerOf(ctx, resp)
		return err
	})
	return a, err
}

// Explain asks what Proxy would do with the same call, which is not made.
func (c *Client) Explain(ctx context.Context, call api.Call, body Body) (e api.Explanation, err error) {
	if body.Reader == nil {
		return ask[api.Explanation](ctx, c, c.calls, post, api.RouteExplain, call)
	}
	if err := c.unlockFirst(ctx); err != nil {
		return e, err
	}
	resp, err := c.sendCall(ctx, api.RouteExplain, call, body)
	if err != nil {
		return e, err
	}
	defer resp.Body.Close()
	return e, readAnswer(resp, &e)
}

// sendCall sends a call whose body is a part of its own.
func (c *Client) sendCall(ctx context.Context, route string, call api.Call, body Body) (*http.Response, error) {
	if call.Request.Body != nil {
		return nil, api.Errorf(api.InvalidRequest, "a call has one body")
	}
	return c.sendParts(ctx, c.calls, route, call, "body", body)
}

// sendParts sends a body as the second part of a request, as it is read.
func (c *Client) sendParts(ctx context.Context, t *http.Transport, route string, envelope any, name string, body Body) (*http.Response, error) {
	first, err := encode(envelope)
	if err != nil {
		return nil, api.Errorf(api.InvalidRequest, "the request cannot be encoded: %w", err)
	}
	boundary := rand.Text()
	before := "--" + boundary + "\r\nContent-Disposition: form-data; name=\"envelope\"\r\nContent-Type: application/json\r\n\r\n"
	between := "\r\n--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\nContent-Type: application/octet-stream\r\n"
	if body.Length >= 0 {
		between += fmt.Sprintf("Content-Length: %d\r\n", body.Length)
	}
	between += "\r\n"
	tail := "\r\n--" + boundary + "--\r\n"
	req, err := newRequest(ctx, http.MethodPost, route)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
	req.ContentLength = -1
	if body.Length >= 0 {
		req.ContentLength = int64(len(before)+len(first)+len(between)+len(tail)) + body.Length
	}
	secret := &wiped{b: first} // it may hold a passphrase
	req.Body = partsBody{io.MultiReader(strings.NewReader(before), secret, strings.NewReader(between), body.Reader, strings.NewReader(tail)), secret}
	return c.roundTrip(t, req)
}

// partsBody is a request in parts, whose first is wiped when the transport is
// done with it. What is behind the second is its caller's to close.
type partsBody struct {
	io.Reader
	io.Closer
}

// answerOf tells an upstream's answer from the daemon's own.
func answerOf(ctx context.Context, resp *http.Response) (*Answer, error) {
	if resp.Header.Get(api.HeaderAnswer) != "upstream" {
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return nil, api.Errorf(api.Internal, "the daemon's answer is incomplete")
		}
		return nil, errorOf(resp, b)
	}
	a := &Answer{Status: resp.StatusCode, Header: resp.Header, Body: &answerBody{ctx: ctx, resp: resp, lost: api.UpstreamUnreachable}}
	if err := decodeAnswer(resp, []byte(resp.Header.Get(api.HeaderPlanned)), &a.Planned); err != nil {
		resp.Body.Close()
		return nil, err
	}
	for _, name := range []string{api.HeaderAPI, api.HeaderAnswer, api.HeaderPlanned, "Cache-Control", "X-Content-Type-Options", "Date"} {
		a.Header.Del(name) // the daemon's, not the upstream's
	}
	return a, nil
}

// answerBody turns the trailer that names a failure into that failure.
type answerBody struct {
	ctx  context.Context
	resp *http.Response
	lost api.Code // of a body that ends too early
	err  error
}

func (b *answerBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.resp.Body.Read(p)
	if err != nil {
		b.err = b.end(err)
	}
	return n, b.err
}

func (b *answerBody) end(err error) error {
	switch {
	case !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		if e := b.ctx.Err(); e != nil {
			return e
		}
		return api.Errorf(b.lost, "the answer broke off before its end")
	}
	code := b.resp.Trailer.Get(api.HeaderError)
	if code == "" {
		return io.EOF
	}
	message, err := strconv.Unquote(b.resp.Trailer.Get(api.HeaderErrorMessage))
	if err != nil {
		message = "the answer broke off before its end"
	}
	return api.Errorf(api.Code(code), "%s", message)
}

func (b *answerBody) Close() error { return b.resp.Body.Close() }
