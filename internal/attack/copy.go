package attack

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/grant"
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
	// Left are what the copy could not take: a value that has to be a
	// certificate, say, for which there is no decoy.
	Left []string `json:"left,omitzero"`
}

// Copy writes the configuration that one daemon lists into another's vault:
// names, scopes, hosts, rules and limits as they are, every value a decoy. It
// asks the first for lists, and for nothing else.
func Copy(ctx context.Context, from, to *client.Client) (Copied, error) {
	c := &copying{ctx: ctx, from: from, to: to, refs: map[string]string{}, have: map[string]bool{}}
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
	for _, s := range list.Secrets {
		if ours(s.Name) {
			continue
		}
		made, err := c.to.CreateSecret(c.ctx, api.SecretCreate{Name: s.Name, Value: secret.FromString("decoy-" + rand.Text()), Scope: s.Scope, Aliases: s.Aliases})
		if err != nil {
			if err := c.left("secret "+s.Name, err); err != nil {
				return err
			}
			continue
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
	}
	return nil
}

func (c *copying) credentials() error {
	there, err := c.to.Credentials(c.ctx)
	if err != nil {
		return err
	}
	for _, r := range there.Credentials {
		c.have[r.ID] = true // the registry made it of its secret
	}
	list, err := c.from.Credentials(c.ctx)
	if err != nil {
		return err
	}
	for _, r := range list.Credentials {
		if ours(r.ID) || ours(r.Provider) {
			continue
		}
		if !c.have[r.ID] {
			if _, err := c.to.CreateCredential(c.ctx, c.like(&r)); err != nil {
				if err := c.left("credential "+r.ID, err); err != nil {
					return err
				}
				continue
			}
			c.have[r.ID] = true
		}
		c.done.Credentials++
	}
	return nil
}

// like asks for a credential like one that is listed. How a custom one
// authenticates is not listed in full: here each of its secrets is a header.
func (c *copying) like(r *api.Credential) api.CredentialCreate {
	made := api.CredentialCreate{ID: r.ID, Provider: r.Provider, Scope: r.Scope, SecretRefs: map[string]string{}}
	for field, id := range r.Secrets {
		made.SecretRefs[field] = c.refs[id]
	}
	if r.Origin == "registry" {
		if r.Tenant != "" {
			made.Hosts = r.Hosts
		}
		return made
	}
	made.Hosts, made.AllowPrivateNetwork, made.AllowPorts, made.AllowHTTP = r.Hosts, r.AllowPrivateNetwork, r.AllowPorts, r.AllowHTTP
	made.Auth = &api.AuthSpec{Type: "multi-header"}
	var fields []string
	for field := range r.Secrets {
		fields = append(fields, field)
	}
	slices.Sort(fields)
	for i, field := range fields {
		made.Auth.Headers = append(made.Auth.Headers, api.AuthField{Name: fmt.Sprintf("X-Decoy-%d", i), ValueTemplate: "{{" + field + "}}"})
	}
	return made
}

func (c *copying) capabilities() error {
	list, err := c.from.Capabilities(c.ctx)
	if err != nil {
		return err
	}
	var off []string
	for _, s := range list.Capabilities {
		if ours(s.ID) {
			continue
		}
		if s.Origin == "custom" {
			if err := c.capability(s.ID); err != nil {
				return err
			}
		}
		if s.Off && s.Access != "admin" { // admin ones are off from the start
			off = append(off, s.ID)
		}
	}
	for part := range slices.Chunk(off, 50) {
		if _, err := c.to.DisableCapabilities(c.ctx, api.SwitchRequest{Patterns: part}); err != nil {
			if err := c.left(plural(len(part), "switch", "switches"), err); err != nil {
				return err
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
	made := api.CapabilityCreate{ID: d.Capability, Provider: d.Provider, Methods: d.Allowed.Methods, Paths: d.Allowed.PathPrefixes, IssuesToken: d.IssuesToken}
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
		if grant.Match(b.Capability, Provider+"/x") || !c.have[b.Credential] {
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
	add := api.GrantAdd{Capabilities: g.Capabilities, WorkspaceID: g.WorkspaceID, GroupID: g.GroupID, StrictScope: g.StrictScope}
	if who := ref(&g.Consumer); who != nil {
		add.Consumer = *who
	}
	if g.RatePerMinute != 0 {
		add.RatePerMinute = &g.RatePerMinute
	}
	if _, err := c.to.AddGrant(c.ctx, add); err != nil {
		return c.left("grant "+g.ID, err)
	}
	c.done.Grants++
	return nil
}

func (c *copying) letOurselves() error {
	group, err := user.LookupGroupId(strconv.Itoa(os.Getegid()))
	if err != nil {
		return err
	}
	_, err = c.to.AddGrant(c.ctx, api.GrantAdd{Consumer: api.ConsumerRef{GroupName: group.Name}, Capabilities: []string{Provider + "*"}})
	return err
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
