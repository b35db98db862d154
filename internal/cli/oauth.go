package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/registry"
)

func newOAuth(o *Options) *cobra.Command {
	cmd := newGroup("oauth", "Log in at providers, see how the tokens stand, and log out")
	cmd.Long = "An OAuth login is the consent that a person gives in a browser. aivault exchanges it for tokens,\n" +
		"keeps them in the vault, renews them, and prints none."
	cmd.AddCommand(newOAuthLogin(o), newOAuthStatus(o), newOAuthLogout(o), newOAuthSetup(o))
	return cmd
}

func newOAuthStatus(o *Options) *cobra.Command {
	return &cobra.Command{
		Use: "status", Args: noArgs,
		Short: "List the tokens: whose they are, how old, and how long they last",
		Long: "Lists the tokens that credentials call with: since when there is one, when it was last renewed, and\n" +
			"when it ends. \"none yet\": the first call asks for one; \"expired\": the next call renews it; \"needs\n" +
			"login\": nothing but a person can.",
		Example: "  aivault oauth status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withClient(cmd.Context(), func(c *client.Client) error {
				list, err := c.OAuth(cmd.Context())
				if err != nil {
					return err
				}
				if o.JSON {
					return o.printJSON(list)
				}
				if len(list.Tokens) == 0 {
					o.say("No credential needs a token. Log in: aivault oauth login PROVIDER")
					return nil
				}
				if err := o.printTable(tokenTable(list)); err != nil {
					return err
				}
				for _, t := range list.Tokens {
					if t.Why != "" {
						o.notice("%s: %s", t.Provider, t.Why)
					}
				}
				return nil
			})
		},
	}
}

func tokenTable(list api.OAuthList) *table {
	var cells [][]string
	for _, t := range list.Tokens {
		cells = append(cells, []string{t.Provider, strings.Join(t.Credentials, ", "), t.Account, t.State,
			rfc3339(t.FirstAtMs), rfc3339(t.ObtainedAtMs), rfc3339(t.ExpiresAtMs)})
	}
	return filledTable([]string{"PROVIDER", "CREDENTIALS", "ACCOUNT", "STATE", "SINCE", "RENEWED", "EXPIRES"}, cells, "ACCOUNT")
}

func newOAuthLogout(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		ValidArgsFunction: o.completeCredential,
		Use:               "logout PROVIDER|CREDENTIAL|SECRET",
		Short:             "Give the tokens back to the provider, and remove secret and credential",
		Long: "Asks the provider to take the tokens back, where it has a way to, and removes the secret, its tokens\n" +
			"and the credentials that it made. They are removed also when the provider says no, which is told.",
		Example: "  aivault oauth logout gitlab",
	}
	ref := newIDArg(cmd, "login", "id", "provider", "credential")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := ref.get(args)
		if err != nil {
			return err
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			out, err := c.Logout(cmd.Context(), id)
			if err != nil {
				return err
			}
			if o.JSON {
				return o.printJSON(out)
			}
			o.say("Logged out: %s", out.Secret.Name)
			for _, cred := range out.Credentials {
				o.say("Credential removed: %s", cred)
			}
			if !out.Revoked {
				o.notice("the provider may still honour the tokens: %s", out.Why)
			}
			if out.Notice != "" {
				o.notice("%s", out.Notice)
			}
			return nil
		})
	}
	return cmd
}

func newOAuthSetup(o *Options) *cobra.Command {
	var r api.OAuthSetup
	cmd := &cobra.Command{
		ValidArgsFunction: o.completeLogin,
		Use:               "setup PROVIDER --client-id ID --redirect-uri URI",
		Short:             "Print the page of a provider where consent is given, for a code that you exchange yourself",
		Long: "Prints the address of the page where a person gives consent. The code that comes back is yours to\n" +
			"exchange at the token endpoint; store what that answers as the secret that is named. oauth login does all\n" +
			"of it by itself, and better: here nothing ties the code to this machine.",
		Example: "  aivault oauth setup gitlab --client-id my-app --redirect-uri https://example.com/callback",
	}
	ref := newIDArg(cmd, "provider", "provider")
	cmd.Flags().StringVar(&r.ClientID, "client-id", "", "the `ID` of the app that you registered at the provider")
	cmd.Flags().StringVar(&r.RedirectURI, "redirect-uri", "", "the `URI` that is registered with it")
	cmd.Flags().StringArrayVar(&r.OAuthScopes, "oauth-scope", nil, "a `SCOPE` to ask for, in place of the registry's; may be repeated")
	cmd.Flags().StringVar(&r.Host, "host", "", "the `HOST` of your account, where the provider has one for each")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if r.Provider, err = ref.get(args); err != nil {
			return err
		}
		for _, f := range []struct{ name, value string }{{"client-id", r.ClientID}, {"redirect-uri", r.RedirectURI}} {
			if f.value == "" {
				return api.Errorf(api.InvalidRequest, "no --%s given", f.name)
			}
		}
		return o.withClient(cmd.Context(), func(c *client.Client) error {
			consent, err := c.OAuthSetup(cmd.Context(), r)
			if err != nil {
				return err
			}
			if o.JSON {
				return o.printJSON(consent)
			}
			o.say("Compare the state that comes back with: %s", consent.State)
			o.say("Exchange the code at: %s", consent.TokenEndpoint)
			o.say("Store as JSON client_id, client_secret and what it answers, refresh_token or access_token: aivault secrets create --name %s", consent.Secret)
			return o.print([]byte(consent.URL + "\n"))
		})
	}
	return cmd
}

// completeLogin offers the providers that may have a login in a browser.
func (o *Options) completeLogin(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	reg, err := registry.Load()
	if err != nil || len(args) > 0 {
		return nil, none
	}
	var ids []string
	for _, id := range reg.Providers() {
		for _, s := range reg.Summary(id).Secrets {
			if s.Field == "oauth" && strings.HasPrefix(id, prefix) {
				ids = append(ids, id)
			}
		}
	}
	return ids, none
}
