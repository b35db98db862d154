package attack

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/user"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/secret"
)

// Copied says what of an installation's configuration is in the copy.
type Copied struct {
	Secrets      int `json:"secrets"`
	Credentials  int `json:"credentials"`
	Capabilities int `json:"capabilities"`
	Policies     int `json:"policies"`
	Grants       int `json:"grants"`
	Bindings     int `json:"bindings"`
	// Left are what the copy could not take, or has in another way.
	Left []string `json:"left,omitzero"`
}

// Copy writes the configuration that one daemon lists into another's vault:
// names, scopes, hosts, auth, rules and limits as they are, every value a decoy
// of the shape that it is used in. It asks the first for lists, and for nothing
// else.
func Copy(ctx context.Context, from, to *client.Client) (Copied, error) {
	known, err := registry.Load()
	if err != nil {
		return Copied{}, err
	}
	c := &copying{ctx: ctx, from: from, to: to, decoys: decoys{registry: known}, refs: map[string]string{}, have: map[string]bool{}}
	for _, part := range []func() error{c.secrets, c.credentials, c.capabilities, c.policies, c.bindings, c.grants} {
		if err := part(); err != nil {
			return c.done, err
		}
	}
	return c.done, nil
}

type copying struct {
	ctx      context.Context
	from, to *client.Client
	done     Copied
	decoys   decoys
	accounts []api.Credential  // that are copied
	refs     map[string]string // id of a secret -> id of its decoy
	have     map[string]bool   // credentials that are there
}

// left notes what could not be copied; an end of the run is an error.
func (c *copying) left(what string, err error) error {
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	c.done.Left = append(c.done.Left, fmt.Sprintf("%s (%s)", what, api.CodeOf(err)))
	return nil
}

// ours says whether a name is one that the suite makes for itself.
func ours(id string) bool { return strings.HasPrefix(id, Provider) }

func (c *copying) secrets() error {
	list, err := c.from.Secrets(c.ctx)
	if err != nil {
		return err
	}
	accounts, err := c.from.Credentials(c.ctx)
	if err != nil {
		return err
	}
	c.accounts = slices.DeleteFunc(accounts.Credentials, func(r api.Credential) bool { return ours(r.ID) || ours(r.Provider) })
	uses := c.decoys.uses(list.Secrets, c.accounts)
	for i := range list.Secrets {
		s := &list.Secrets[i]
		if ours(s.Name) {
			continue
		}
		value, err := c.decoys.value(uses[s.ID])
		if err != nil {
			return err
		}
		if err := c.secret(s, value); err != nil {
			return err
		}
	}
	return nil
}

func (c *copying) secret(s *api.Secret, value string) error {
	made, err := c.to.CreateSecret(c.ctx, api.SecretCreate{Name: s.Name, Value: secret.FromString(value), Scope: s.Scope, Aliases: s.Aliases, Only: c.only(s)})
	if err != nil {
		return c.left("secret "+s.Name, err)
	}
	c.done.Secrets++
	c.refs[s.ID] = made.ID
	for _, scope := range s.AttachedGroups {
		if p := strings.Split(scope, ":"); len(p) == 3 {
			_, err = c.to.AttachSecret(c.ctx, made.ID, api.SecretAttach{WorkspaceID: p[1], GroupID: p[2]})
		}
		if err != nil {
			if err := c.left("secret "+s.Name+" in "+scope, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// only is what the credential is limited to that the registry makes of this
// secret; of one that has its name no longer it makes none.
func (c *copying) only(s *api.Secret) []string {
	if !slices.ContainsFunc(append([]string{s.Name}, s.Aliases...), func(name string) bool { _, ok := c.decoys.registry.Claims(name); return ok }) {
		return nil
	}
	for _, r := range c.accounts {
		if r.Scope == s.Scope && slices.Contains(slices.Collect(maps.Values(r.Secrets)), s.ID) {
			return r.Only
		}
	}
	return nil
}

// credentials makes those that the secrets did not make by themselves, and
// removes those of them that the original has not.
func (c *copying) credentials() error {
	there, err := c.to.Credentials(c.ctx)
	if err != nil {
		return err
	}
	for _, made := range there.Credentials {
		if slices.ContainsFunc(c.accounts, func(r api.Credential) bool { return c.alike(r, made) }) {
			c.have[made.ID] = true
		} else if _, err := c.to.DeleteCredential(c.ctx, made.ID); err != nil {
			return err
		}
	}
	for _, r := range c.accounts {
		if r.Origin == "custom" && r.AuthSpec == nil {
			c.done.Left = append(c.done.Left, "credential "+r.ID+" (the running daemon is older, and does not say how it authenticates: aivault restart)")
			continue
		}
		if !c.have[r.ID] {
			made, err := c.to.CreateCredential(c.ctx, c.like(&r))
			if err == nil && !c.alike(r, made) {
				err = api.Errorf(api.Internal, "it is another in the copy")
			}
			if err != nil {
				if err := c.left("credential "+r.ID, err); err != nil {
					return err
				}
				if made.ID == "" {
					continue
				}
			}
			c.have[r.ID] = true
		}
		c.done.Credentials++
	}
	return nil
}

// alike says whether one of the copy's credentials is what r is: all that is
// listed of it, but for when it was made and what became of it since.
func (c *copying) alike(r, made api.Credential) bool {
	r.Secrets = maps.Clone(r.Secrets)
	for field, id := range r.Secrets {
		r.Secrets[field] = c.refs[id]
	}
	for _, one := range []*api.Credential{&r, &made} {
		one.CreatedAt, one.Ready, one.Problem, one.Notice = 0, false, "", ""
	}
	return reflect.DeepEqual(r, made)
}

// like asks for a credential like one that is listed.
func (c *copying) like(r *api.Credential) api.CredentialCreate {
	made := api.CredentialCreate{
		ID: r.ID, Provider: r.Provider, Scope: r.Scope, SecretRefs: map[string]string{}, Auth: r.AuthSpec, PublicParts: r.PublicParts, Token: r.Token,
		CAPEM: r.CAPEM, AllowPrivateNetwork: r.AllowPrivateNetwork, AllowPorts: r.AllowPorts, AllowHTTP: r.AllowHTTP,
	}
	for field, id := range r.Secrets {
		made.SecretRefs[field] = c.refs[id]
	}
	if r.Origin == "custom" || r.Tenant != "" {
		made.Hosts = r.Hosts
	}
	return made
}

func (c *copying) capabilities() error {
	list, err := c.from.Capabilities(c.ctx)
	if err != nil {
		return err
	}
	for _, r := range list.Capabilities {
		if r.Origin == "custom" && !ours(r.ID) {
			if err := c.capability(r.ID); err != nil {
				return err
			}
		}
	}
	return c.switches(list.Capabilities)
}

// switches turns on and off what is otherwise in the copy.
func (c *copying) switches(want []api.CapabilitySummary) error {
	there, err := c.to.Capabilities(c.ctx)
	if err != nil {
		return err
	}
	off := map[string]bool{}
	for _, s := range there.Capabilities {
		off[s.ID] = s.Off
	}
	turned := map[bool][]string{}
	for _, s := range want {
		if is, ok := off[s.ID]; ok && is != s.Off {
			turned[s.Off] = append(turned[s.Off], s.ID)
		}
	}
	for toOff, turn := range map[bool]func(context.Context, api.SwitchRequest) (api.Switched, error){true: c.to.DisableCapabilities, false: c.to.EnableCapabilities} {
		for part := range slices.Chunk(turned[toOff], 50) {
			if _, err := turn(c.ctx, api.SwitchRequest{Patterns: part}); err != nil {
				if err := c.left(plural(len(part), "switch", "switches"), err); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (c *copying) capability(id string) error {
	d, err := c.from.Capability(c.ctx, id)
	if err != nil {
		return c.left("capability "+id, err)
	}
	made := api.CapabilityCreate{ID: d.Capability, Provider: d.Provider, Credential: d.OnlyCredential, Methods: d.Allowed.Methods, Paths: d.Allowed.PathPrefixes, IssuesToken: d.IssuesToken}
	if len(d.Allowed.Hosts) > 0 {
		made.Host = d.Allowed.Hosts[0]
	}
	if _, err := c.to.CreateCapability(c.ctx, made); err != nil {
		return c.left("capability "+id, err)
	}
	c.done.Capabilities++
	return nil
}

func (c *copying) policies() error {
	list, err := c.from.Policies(c.ctx)
	if err != nil {
		return err
	}
	for _, p := range list.Policies {
		if ours(p.Capability) {
			continue
		}
		change := api.PolicyChange{Capability: p.Capability, ResponseBlock: p.ResponseBlock, AllowQuery: p.AllowQuery, DenyQuery: p.DenyQuery, RequireJSON: p.RequireJSON}
		if p.RatePerMinute != 0 {
			change.RatePerMinute = &p.RatePerMinute
		}
		if p.RatePerCallerPerMinute != 0 {
			change.RatePerCallerPerMinute = &p.RatePerCallerPerMinute
		}
		if p.MaxRequestBodyBytes != 0 {
			change.MaxRequestBodyBytes = &p.MaxRequestBodyBytes
		}
		if p.MaxResponseBodyBytes != 0 {
			change.MaxResponseBodyBytes = &p.MaxResponseBodyBytes
		}
		if _, err := c.to.SetPolicy(c.ctx, change); err != nil {
			if err := c.left("policy of "+p.Capability, err); err != nil {
				return err
			}
			continue
		}
		c.done.Policies++
	}
	return nil
}

// bindings leaves out those that would send the suite's own calls to another
// account.
func (c *copying) bindings() error {
	list, err := c.from.Bindings(c.ctx)
	if err != nil {
		return err
	}
	for _, b := range list.Bindings {
		if grant.Match(b.Capability, Provider+"/x") {
			continue
		}
		if _, err := c.to.Bind(c.ctx, api.BindingCreate{Capability: b.Capability, Credential: b.Credential, Scope: b.Scope, Consumer: ref(b.Consumer)}); err != nil {
			if err := c.left("binding "+b.ID, err); err != nil {
				return err
			}
			continue
		}
		c.done.Bindings++
	}
	return nil
}

// grants are copied last. Where there are any, a group of this user's is
// granted the suite's own capabilities, beside whatever else it is granted: a
// grant for the user itself would be one for the vault's operator, which is
// none.
func (c *copying) grants() error {
	list, err := c.from.Grants(c.ctx)
	if err != nil || list.Default != api.GrantDeny && len(list.Grants) == 0 {
		return err
	}
	if err := c.letOurselves(); err != nil {
		return c.left("grants, because this user's group cannot have one", err)
	}
	for _, g := range list.Grants {
		if err := c.grant(&g); err != nil {
			return err
		}
	}
	if list.Default == api.GrantDeny {
		_, err = c.to.SetGrantDefault(c.ctx, api.GrantDefault{Default: list.Default})
	}
	return err
}

func (c *copying) grant(g *api.Grant) error {
	add := api.GrantAdd{WorkspaceID: g.WorkspaceID, GroupID: g.GroupID, StrictScope: g.StrictScope}
	if who := ref(&g.Consumer); who != nil {
		add.Consumer = *who
	}
	if g.RatePerMinute != 0 {
		add.RatePerMinute = &g.RatePerMinute
	}
	if g.ExpiresAtMs != 0 {
		left := max(1, g.ExpiresAtMs-time.Now().UnixMilli()) // one that has ended keeps its consumer from having more, too
		add.ExpiresInMs = &left
	}
	if len(g.Capabilities) > 0 {
		add.Capabilities = g.Capabilities
	}
	made, err := c.to.AddGrant(c.ctx, add)
	if err == nil && len(g.Capabilities) == 0 {
		_, err = c.to.RemoveGrant(c.ctx, made.ID) // which leaves one for nothing
	}
	if err != nil {
		return c.left("grant "+g.ID, err)
	}
	c.done.Grants++
	return nil
}

func (c *copying) letOurselves() error {
	group, err := ownGroup()
	if err != nil {
		return err
	}
	_, err = c.to.AddGrant(c.ctx, api.GrantAdd{Consumer: api.ConsumerRef{GroupName: group}, Capabilities: []string{Provider + "*"}})
	return err
}

// ownGroup is the name of this process's group.
func ownGroup() (string, error) {
	group, err := user.LookupGroupId(strconv.Itoa(os.Getegid()))
	if err != nil {
		return "", err
	}
	return group.Name, nil
}

// ref names a consumer in a request.
func ref(c *api.Consumer) *api.ConsumerRef {
	switch {
	case c == nil:
		return nil
	case c.UID != nil:
		return &api.ConsumerRef{UID: c.UID}
	}
	return &api.ConsumerRef{GroupName: c.Group}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
