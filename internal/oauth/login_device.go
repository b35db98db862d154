package oauth

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/secret"
)

// What a device login has to wait for.
var (
	// ErrPending says that the person has not answered yet.
	ErrPending = errors.New("oauth: the login is pending")
	// ErrSlowDown says the same, and that the endpoint wants to be asked less
	// often: five seconds more between two questions.
	ErrSlowDown = errors.New("oauth: the login is pending; ask less often")
)

const (
	grantDevice = "urn:ietf:params:oauth:grant-type:device_code"

	deviceInterval = 5 * time.Second  // where the answer names none
	maxInterval    = time.Minute      // of what it names
	maxDevice      = 30 * time.Minute // that a login may take
	maxUserCode    = 64
	maxVerifyURI   = 2 << 10
)

// A Device is a login that a person finishes on another device (RFC 8628).
type Device struct {
	Code            secret.Value
	UserCode        string // what the person types
	VerificationURI string // where
	Interval        time.Duration
	EndsAt          time.Time
}

// Device begins a device login.
func (s *Source) Device(ctx context.Context, c *Client) (*Device, error) {
	a := c.asking(s)
	defer a.wipe()
	var list []param
	if scopes := c.joinedScopes(); scopes != "" {
		list = append(list, param{"scope", []byte(scopes)})
	}
	list, basic, err := a.authenticate(list)
	if err != nil {
		return nil, err
	}
	r := newAsk(c.Spec.DeviceEndpoint, "form", list)
	if !basic.IsZero() {
		r.add.Headers = []egress.Field{{Name: "Authorization", Value: basic}}
	}
	said, err := s.askOnce(ctx, a, r)
	if err != nil {
		return nil, err
	}
	defer clear(said.body)
	if err := said.failure(a.want); err != nil {
		return nil, api.Errorf(api.AuthFailed, "%s let no device login begin: %s (status %d)", said.host, ErrorCode(said.errorCode()), said.status)
	}
	return said.device()
}

// errorCode is the error code of an answer, as it stands there.
func (a *answer) errorCode() string {
	m, ok := a.parse()
	if !ok {
		return ""
	}
	defer m.wipe()
	return string(m.text("error"))
}

// device takes an answer of RFC 8628, section 3.2, apart.
func (a *answer) device() (*Device, error) {
	m, ok := a.parse()
	if !ok {
		return nil, a.unusable("is neither a JSON object nor a form")
	}
	defer m.wipe()
	d := &Device{UserCode: string(m.text("user_code")), Interval: deviceInterval, EndsAt: a.askedAt.Add(maxDevice)}
	if d.VerificationURI = string(m.text("verification_uri")); d.VerificationURI == "" {
		d.VerificationURI = string(m.text("verification_url")) // Google's name for it
	}
	if u, err := url.Parse(d.VerificationURI); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || badToken([]byte(d.VerificationURI)) != "" || len(d.VerificationURI) > maxVerifyURI {
		return nil, a.unusable("names no https address for the person to go to")
	}
	if badToken([]byte(d.UserCode)) != "" || len(d.UserCode) > maxUserCode {
		return nil, a.unusable("names no code for the person to type")
	}
	if end := m.end(a.askedAt); !end.IsZero() && end.Before(d.EndsAt) {
		d.EndsAt = end
	}
	if seconds, err := strconv.ParseFloat(string(m["interval"]), 64); err == nil && seconds > 0 {
		d.Interval = min(time.Duration(min(seconds, maxInterval.Seconds())*float64(time.Second)), maxInterval)
	}
	code := m.text("device_code")
	if why := badToken(code); why != "" {
		clear(code)
		return nil, a.unusable("has a device code that " + why)
	}
	d.Code = secret.New(code)
	return d, nil
}

func (a *answer) unusable(why string) error {
	return api.Errorf(api.AuthFailed, "%s let no device login begin: its answer (status %d) %s", a.host, a.status, why)
}

// DeviceToken asks whether the person has given consent: ErrPending and
// ErrSlowDown while they have not. A connection that fails is a reason to ask
// less often, too.
func (s *Source) DeviceToken(ctx context.Context, c *Client, code secret.Value) (*Granted, error) {
	a := c.asking(s)
	defer a.wipe()
	r, err := a.tokenRequest(grantDevice, false, param{"device_code", code.Expose()})
	if err != nil {
		return nil, err
	}
	said, err := s.askOnce(ctx, a, r)
	switch api.CodeOf(err) {
	case api.UpstreamTimeout, api.UpstreamUnreachable:
		return nil, ErrSlowDown
	case "":
	default:
		return nil, err
	}
	defer clear(said.body)
	switch said.errorCode() {
	case "authorization_pending":
		return nil, ErrPending
	case "slow_down":
		return nil, ErrSlowDown
	}
	return s.granted(a, said)
}
