package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Code names what went wrong. It is part of the API: a code once published
// keeps its meaning, exit status and HTTP status.
type Code string

// The codes, as docs/errors.md lists them.
const (
	AlreadyExists       Code = "already_exists"
	Internal            Code = "internal"
	InvalidRequest      Code = "invalid_request"
	CredentialAmbiguous Code = "credential_ambiguous"
	PolicyViolation     Code = "policy_violation"
	OperatorRequired    Code = "operator_required"
	TokenInvalid        Code = "token_invalid"
	RateLimited         Code = "rate_limited"
	RequestTooLarge     Code = "request_too_large"
	ResponseTooLarge    Code = "response_too_large"
	VaultLocked         Code = "vault_locked"
	VaultUnavailable    Code = "vault_unavailable"
	UpstreamUnreachable Code = "upstream_unreachable"
	AuthFailed          Code = "auth_failed"
	OAuthRefreshFailed  Code = "oauth_refresh_failed"
	UpstreamTimeout     Code = "upstream_timeout"
	CapabilityNotFound  Code = "capability_not_found"
	CredentialNotFound  Code = "credential_not_found"
	SecretNotFound      Code = "secret_not_found"
	DaemonUnreachable   Code = "daemon_unreachable"
)

// Exit statuses that no code stands for.
const (
	ExitOK          = 0
	ExitUpstream4xx = 22  // --fail and the upstream answered 400 or more
	ExitInterrupted = 130 // Ctrl-C
)

// Outcome is what a code means to a shell and to an HTTP client.
type Outcome struct {
	Code Code
	Exit int // exit status of the CLI
	HTTP int // status of the daemon's answer; 0 where the daemon cannot answer
}

// Outcomes is the one table of codes, exits and statuses.
func Outcomes() []Outcome {
	return []Outcome{
		{AlreadyExists, 1, 409},
		{Internal, 1, 500},
		{InvalidRequest, 2, 400},
		{CredentialAmbiguous, 2, 409},
		{PolicyViolation, 3, 403},
		{OperatorRequired, 3, 403},
		{TokenInvalid, 3, 401},
		{RateLimited, 3, 429},
		{RequestTooLarge, 3, 413},
		{ResponseTooLarge, 3, 502},
		{VaultLocked, 4, 423},
		{VaultUnavailable, 4, 503},
		{UpstreamUnreachable, 5, 502},
		{AuthFailed, 5, 502},
		{OAuthRefreshFailed, 5, 502},
		{UpstreamTimeout, 5, 504},
		{CapabilityNotFound, 6, 404},
		{CredentialNotFound, 6, 404},
		{SecretNotFound, 6, 404},
		{DaemonUnreachable, 7, 0},
	}
}

// OutcomeOf returns the row of c; an unknown code is an internal failure.
func OutcomeOf(c Code) Outcome {
	for _, o := range Outcomes() {
		if o.Code == c {
			return o
		}
	}
	return Outcome{c, 1, 500}
}

// Error is every failure that a caller may see. Message and Hint never hold a
// secret, a rendered auth value or an upstream's body.
type Error struct {
	Code         Code   `json:"error"`
	Message      string `json:"message"`
	Hint         string `json:"hint,omitzero"`
	RetryAfterMs int64  `json:"retryAfterMs,omitzero"`
	cause        error
}

// Errorf makes an Error. An error given with %w stays reachable by errors.Is.
func Errorf(c Code, format string, args ...any) *Error {
	e := fmt.Errorf(format, args...)
	return &Error{Code: c, Message: worded(e), cause: errors.Unwrap(e)}
}

// Quote shows in an error what a caller or a file named: in ASCII, so that no
// terminal obeys it, and no more than its first 80 bytes.
func Quote(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%+q...", s[:most])
	}
	return fmt.Sprintf("%+q", s)
}

// worded is the text of an error, in words of ours where a context that ended
// is what it is about: who waits for it, or for how long, is nothing that the
// library's text says.
func worded(err error) string {
	text := err.Error()
	for _, ended := range [...]struct {
		is    error
		words string
	}{{context.Canceled, "it was cancelled, or nobody waited for it any more"}, {context.DeadlineExceeded, "it took too long"}} {
		if errors.Is(err, ended.is) {
			text = strings.ReplaceAll(text, ended.is.Error(), ended.words)
		}
	}
	return text
}

// WithHint returns a copy of e that tells what to do next: best an exact
// command.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.cause }

// AsError finds the Error in err's chain; any other error is wrapped as
// internal, but for that of a request which was given up: nothing failed.
// AsError(nil) is nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.Canceled) {
		return &Error{Code: InvalidRequest, Message: "the request was given up before it was done: the connection it came by has ended, or it was cancelled", cause: err}
	}
	return &Error{Code: Internal, Message: worded(err), cause: err}
}

// CodeOf is the code of err, Internal for a foreign error, "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return AsError(err).Code
}
