package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/term"
)

// loginFlags are what a login is asked for with.
type loginFlags struct {
	clientID              string
	secretStdin, public   bool
	scopes                []string
	host                  string
	device, stay, replace bool
	port                  int
	scope                 *scopeFlags
}

func newOAuthLogin(o *Options) *cobra.Command {
	f := &loginFlags{}
	cmd := &cobra.Command{
		ValidArgsFunction: o.completeLogin,
		Use:               "login PROVIDER",
		Short:             "Log in at a provider in the browser, and keep the tokens in the vault",
		Long: "Opens the provider's page in the browser, where you give consent, and keeps what comes of it: nothing is\n" +
			"printed but who logged in. It needs an app that you registered at the provider, with the redirect URI\n" +
			"http://127.0.0.1/callback (http://localhost/callback where the provider wants that); a provider that compares the port\n" +
			"too needs --port. The client secret is asked for without echo. With --device you type a code on any\n" +
			"device, where the provider has that. A login takes one answer, within five minutes.",
		Example: "  pass show gitlab-app | aivault oauth login gitlab --client-id my-app --client-secret-stdin\n" +
			"  pass show gitlab-app | aivault oauth login gitlab --client-id my-app --client-secret-stdin --device --oauth-scope read_api",
	}
	ref := newIDArg(cmd, "provider", "provider")
	flags := cmd.Flags()
	flags.StringVar(&f.clientID, "client-id", "", "the `ID` of your app (default: that of the login which is replaced, with its secret)")
	flags.BoolVar(&f.secretStdin, "client-secret-stdin", false, "read the client secret from standard input")
	flags.BoolVar(&f.public, "public-client", false, "the app has no secret")
	flags.StringArrayVar(&f.scopes, "oauth-scope", nil, "a `SCOPE` to ask for, in place of the registry's; may be repeated")
	flags.StringVar(&f.host, "host", "", "the `HOST` of your account, where the provider has one for each")
	flags.BoolVar(&f.device, "device", false, "show a code to type on another device")
	flags.BoolVar(&f.stay, "no-browser", false, "print the page's address and open nothing")
	flags.IntVar(&f.port, "port", 0, "wait for the browser on this `PORT` (default: any that is free)")
	flags.BoolVar(&f.replace, "force", false, "replace the login that is there without asking")
	f.scope = newScopeFlags(cmd, "whose it is")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		r, err := f.request(cmd, id)
		if err != nil {
			return err
		}
		if r.ClientID != "" && !f.public {
			if r.ClientSecret, err = o.clientSecret(cmd.Context(), f); err != nil {
				return err
			}
		}
		defer wipeKey(r.ClientSecret)
		return o.withClient(cmd.Context(), func(c *client.Client) error { return o.login(cmd.Context(), c, f, r) })
	}
	return cmd
}

// request is what the flags ask for.
func (f *loginFlags) request(cmd *cobra.Command, provider string) (r api.OAuthStart, err error) {
	set := cmd.Flags().Changed
	for _, pair := range [][]string{{"client-secret-stdin", "public-client"}, {"device", "port"}, {"device", "no-browser"}} {
		if err := oneOf(cmd, pair...); err != nil {
			return r, err
		}
	}
	switch {
	case set("client-id") && f.clientID == "":
		return r, api.Errorf(api.InvalidRequest, "--client-id is empty")
	case f.clientID == "" && (f.secretStdin || f.public):
		return r, api.Errorf(api.InvalidRequest, "no --client-id given")
	case set("port") && (f.port < 1 || f.port > 65535):
		return r, api.Errorf(api.InvalidRequest, "--port must lie between 1 and 65535")
	case slices.Contains(f.scopes, ""):
		return r, api.Errorf(api.InvalidRequest, "--oauth-scope is empty")
	}
	r = api.OAuthStart{Provider: provider, Flow: api.FlowCode, ClientID: f.clientID, OAuthScopes: f.scopes, Host: f.host, Replace: f.replace}
	if f.device {
		r.Flow = api.FlowDevice
	}
	r.Scope, err = f.scope.get(cmd)
	return r, err
}

// clientSecret is the app's secret: from a pipe that a flag names, or typed.
func (o *Options) clientSecret(ctx context.Context, f *loginFlags) (secret.Value, error) {
	if f.secretStdin {
		in, err := o.takeStdin("client-secret-stdin")
		if err != nil {
			return secret.Value{}, err
		}
		data, err := readLimited(ctxReader{ctx, in}, secret.MaxSize)
		if errors.Is(err, errTooLong) {
			return secret.Value{}, api.Errorf(api.InvalidRequest, "standard input is longer than %d bytes", secret.MaxSize)
		}
		if err != nil {
			return secret.Value{}, err
		}
		return notEmpty(secret.New(trimNewline(data)), "standard input")
	}
	v, err := o.ask(ctx, question{prompt: "Client secret of the app: "})
	if errors.Is(err, term.ErrNoTerminal) {
		return v, api.Errorf(api.InvalidRequest, "there is no terminal to ask for the client secret on").
			WithHint("give --client-secret-stdin and a pipe, or --public-client for an app without a secret")
	}
	return v, err
}

// login runs a login to its end.
func (o *Options) login(ctx context.Context, c *client.Client, f *loginFlags, r api.OAuthStart) error {
	var wait *callback
	if r.Flow == api.FlowCode {
		var err error
		if wait, err = listenForBrowser(redirectHost(r.Provider), f.port); err != nil {
			return err
		}
		defer wait.close()
		r.RedirectURI = wait.uri
	}
	l, err := o.startLogin(ctx, c, r)
	if err != nil {
		return err
	}
	if wait != nil {
		l, err = o.loginByCode(ctx, c, f, l, wait)
	} else {
		l, err = o.loginByDevice(ctx, c, l)
	}
	if e := api.AsError(err); err != nil && e.Code == api.UpstreamTimeout && e.Hint == "" {
		err = e.WithHint("start again: aivault oauth login %s", r.Provider)
	}
	if err != nil {
		return err
	}
	return o.loggedIn(ctx, c, r.Provider, l)
}

// redirectHost is where the provider lets a browser come back to. A daemon
// with another registry says so when it is asked.
func redirectHost(provider string) string {
	const usual = "127.0.0.1"
	reg, err := registry.Load()
	if err != nil {
		return usual
	}
	p := reg.Provider(provider)
	if p == nil {
		return usual
	}
	for i := range p.Logins {
		if l := p.Logins[i].OAuth2; l != nil && l.AuthorizationEndpoint != "" && l.RedirectHost != "" {
			return l.RedirectHost
		}
	}
	return usual
}

// startLogin asks before it replaces a login that is there.
func (o *Options) startLogin(ctx context.Context, c *client.Client, r api.OAuthStart) (api.OAuthLogin, error) {
	l, err := c.StartLogin(ctx, r)
	e := api.AsError(err)
	if err == nil || e.Code != api.AlreadyExists || r.Replace || !strings.Contains(e.Hint, "--force") {
		return l, err
	}
	yes, asked := o.confirm(ctx, e.Message+". Log in anew and replace it?")
	switch {
	case errors.Is(asked, term.ErrNoTerminal):
		return l, api.Errorf(api.InvalidRequest, "%s", e.Message).WithHint("%s", e.Hint)
	case asked != nil:
		return l, asked
	case !yes:
		return l, api.Errorf(api.InvalidRequest, "%s; nothing was changed", e.Message)
	}
	r.Replace = true
	return c.StartLogin(ctx, r)
}

// loginByCode sends the person to the provider's page, and hands over what
// their browser brings back.
func (o *Options) loginByCode(ctx context.Context, c *client.Client, f *loginFlags, l api.OAuthLogin, wait *callback) (api.OAuthLogin, error) {
	o.openPage(ctx, f, l.AuthorizationURL)
	answer, err := wait.wait(ctx, time.UnixMilli(l.ExpiresAtMs), o.Clock)
	if err != nil {
		giveUp(ctx, c, l.ID)
		return l, err
	}
	defer wipeKey(answer.Code, answer.State)
	return c.FinishLogin(ctx, l.ID, answer)
}

// openPage opens the provider's page, and shows its address in any case: the
// browser that opens may be on another screen.
func (o *Options) openPage(ctx context.Context, f *loginFlags, page string) {
	if f.stay {
		o.say("Open this page in a browser on this machine:")
		o.say("%s", page)
		return
	}
	err := client.OpenBrowser(ctx, o.browserEnviron(), page)
	if err != nil {
		o.notice("the browser was not opened: %s", api.AsError(err).Message)
		o.say("Open this page in a browser on this machine:")
	} else {
		o.say("The browser shows where to log in. If it does not, open this page yourself:")
	}
	o.say("%s", page)
}

// browserEnviron is this process's environment without what holds a key.
func (o *Options) browserEnviron() []string {
	env, err := o.env()
	if err != nil {
		return nil
	}
	keys := env.KeyNames()
	return slices.DeleteFunc(slices.Clone(o.Environ), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(keys, name)
	})
}

// loginByDevice shows the code to type, and asks until somebody has.
func (o *Options) loginByDevice(ctx context.Context, c *client.Client, l api.OAuthLogin) (api.OAuthLogin, error) {
	o.say("Open %s on any device, and type this code: %s", l.VerificationURI, l.UserCode)
	o.say("Waiting until %s for you to say yes there", rfc3339(l.ExpiresAtMs))
	id, ends := l.ID, time.UnixMilli(l.ExpiresAtMs)
	for !l.Done {
		timer := time.NewTimer(time.Duration(max(l.PollAfterMs, 1)) * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			giveUp(ctx, c, id)
			return l, ctx.Err()
		}
		if !o.Clock().Before(ends) {
			giveUp(ctx, c, id)
			return l, api.Errorf(api.UpstreamTimeout, "nobody typed the code in time")
		}
		next, err := c.FinishLogin(ctx, id, api.OAuthAnswer{})
		if err != nil {
			return l, err
		}
		l = next
	}
	return l, nil
}

// giveUp ends a login that nobody waits for any more, so that the daemon does
// not.
func giveUp(ctx context.Context, c *client.Client, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = c.FinishLogin(ctx, id, api.OAuthAnswer{Error: "access_denied"}) // it would end by itself
}

// loggedIn says what came of a login.
func (o *Options) loggedIn(ctx context.Context, c *client.Client, provider string, l api.OAuthLogin) error {
	who := ""
	if l.Account != "" {
		who = " as " + l.Account
	}
	o.say("Logged in at %s%s", provider, who)
	if s := l.Secret; s != nil {
		lines := createdLines(*s)
		if l.Rotated {
			lines[0] = "Secret replaced: " + s.Name
		}
		for _, line := range lines {
			o.say("%s", line)
		}
		if host := waitingHost(s.Waiting); host != "" && len(s.Waiting) == 1 {
			if err := o.hintTenant(ctx, c, *s, host); err != nil {
				return err
			}
		}
	}
	if l.Notice != "" {
		o.notice("%s", l.Notice)
	}
	if o.JSON {
		return o.printJSON(l)
	}
	return nil
}
