package server

import (
	"context"
	"net/http"
	"strings"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
	"moldable.sh/aivault/internal/keysource"
	"moldable.sh/aivault/internal/vault"
)

// table is the API. Every row that changes something is the operator's.
func (h *handler) table() []route {
	const (
		get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
		secret                = api.RouteSecrets + "/{ref}"
		capability            = api.RouteCapabilities + "/{id...}"
		limits                = api.RoutePolicies + "/{id...}"
	)
	a := h.cfg.Admin
	return []route{
		{post, api.RouteProxy, false, (*exchange).proxy},
		{post, api.RouteExplain, false, (*exchange).explain},
		{get, api.RouteStatus, false, (*exchange).showStatus},
		{get, api.RouteCapabilities, false, func(x *exchange) error {
			q, err := capabilityQuery(x.r)
			if err != nil {
				return err
			}
			return reply(x)(h.cfg.Broker.CapabilitiesBy(x.r.Context(), x.who, q))
		}},
		{get, capability, false, func(x *exchange) error {
			return reply(x)(h.cfg.Broker.Capability(x.r.Context(), x.who, x.param))
		}},
		{get, api.RouteRegistry, false, func(x *exchange) error { return x.answer(h.cfg.Broker.Registry()) }},
		{get, api.RouteRegistry + "/{id...}", false, func(x *exchange) error { return reply(x)(h.cfg.Broker.RegistryFile(x.param)) }},
		{post, api.RouteCapabilities, true, change(a.CreateCapability)},
		{del, capability, true, about(a.DeleteCapability)},
		{post, api.RouteCapabilities + "/enable", true, change(a.EnableCapabilities)},
		{post, api.RouteCapabilities + "/disable", true, change(a.DisableCapabilities)},

		{post, api.RouteInit, true, change(a.Init)},
		{post, api.RouteUnlock, true, maybe(a.Unlock)},
		{post, api.RouteLock, true, (*exchange).lock},
		{post, api.RouteRotateMaster, true, change(a.RotateMaster)},
		{post, api.RouteBackup, true, (*exchange).backup},
		{post, api.RouteRestore, true, (*exchange).restore},

		{get, api.RouteSecrets, true, list(a.Secrets)},
		{post, api.RouteSecrets, true, change(a.CreateSecret)},
		{patch, secret, true, edit(a.UpdateSecret)},
		{post, secret + "/rotate", true, edit(a.RotateSecret)},
		{del, secret, true, about(a.DeleteSecret)},
		{post, secretGroups, true, edit(a.AttachSecret)},
		{del, secretGroups, true, edit(a.DetachSecret)},
		{post, api.RouteSecrets + "/import", true, decoded(a.ImportSecrets, maxImport, false)},

		{get, api.RouteCredentials, true, list(a.Credentials)},
		{post, api.RouteCredentials, true, change(a.CreateCredential)},
		{del, api.RouteCredentials + "/{ref}", true, about(a.DeleteCredential)},

		{get, api.RoutePolicies, true, list(a.Policies)},
		{post, api.RoutePolicies, true, change(a.SetPolicy)},
		{get, limits, true, about(a.Policy)},
		{del, limits, true, about(a.ClearPolicy)},

		{get, api.RouteBindings, true, list(a.Bindings)},
		{post, api.RouteBindings, true, change(a.Bind)},
		{del, api.RouteBindings, true, change(a.Unbind)},

		{get, api.RouteGrants, true, list(a.Grants)},
		{post, api.RouteGrants, true, change(a.AddGrant)},
		{del, api.RouteGrants + "/{ref}", true, about(a.RemoveGrant)},
		{post, api.RouteGrants + "/reset", true, change(a.ResetGrants)},
		{post, api.RouteGrants + "/default", true, change(a.SetGrantDefault)},

		{get, api.RouteOAuth, true, list(a.OAuth)},
		{post, api.RouteOAuthSetup, true, change(a.OAuthSetup)},
		{post, api.RouteOAuthLogins, true, change(a.StartLogin)},
		{post, api.RouteOAuthLogins + "/{ref}", true, edit(a.FinishLogin)},
		{del, api.RouteOAuth + "/{ref}", true, about(a.Logout)},

		{get, api.RouteAudit, true, (*exchange).audit},
		{get, api.RouteAuditExport, true, (*exchange).exportAudit},
		{get, api.RouteAuditFollow, true, (*exchange).followAudit},
	}
}

// secretGroups are the groups that a secret is attached to.
const secretGroups = api.RouteSecrets + "/{ref}/groups"

// described says whether what a route deletes is described by a body: it has
// no name of its own that could stand in the path.
func (rt *route) described() bool {
	return rt.method == http.MethodDelete && (rt.pattern == api.RouteBindings || rt.pattern == secretGroups)
}

// reply answers with what a method returned.
func reply(x *exchange) func(v any, err error) error {
	return func(v any, err error) error {
		if err != nil {
			return err
		}
		return x.answer(v)
	}
}

func list[Res any](do func(context.Context, grant.Caller) (Res, error)) func(*exchange) error {
	return func(x *exchange) error { return reply(x)(do(x.r.Context(), x.who)) }
}

func about[Res any](do func(context.Context, grant.Caller, string) (Res, error)) func(*exchange) error {
	return func(x *exchange) error { return reply(x)(do(x.r.Context(), x.who, x.param)) }
}

func change[Req, Res any](do func(context.Context, grant.Caller, Req) (Res, error)) func(*exchange) error {
	return decoded(do, maxOperator, false)
}

// maybe is change for a route that needs no body.
func maybe[Req, Res any](do func(context.Context, grant.Caller, Req) (Res, error)) func(*exchange) error {
	return decoded(do, maxOperator, true)
}

func decoded[Req, Res any](do func(context.Context, grant.Caller, Req) (Res, error), limit int64, optional bool) func(*exchange) error {
	return func(x *exchange) error {
		var req Req
		if err := x.decode(&req, limit, optional); err != nil {
			return err
		}
		return reply(x)(do(x.r.Context(), x.who, req))
	}
}

func edit[Req, Res any](do func(context.Context, grant.Caller, string, Req) (Res, error)) func(*exchange) error {
	return func(x *exchange) error {
		var req Req
		if err := x.decode(&req, maxOperator, false); err != nil {
			return err
		}
		return reply(x)(do(x.r.Context(), x.who, x.param, req))
	}
}

func (x *exchange) lock() error {
	var none struct{}
	if err := x.decode(&none, maxOperator, true); err != nil {
		return err
	}
	return reply(x)(x.h.cfg.Admin.Lock(x.r.Context(), x.who))
}

// showStatus puts a status together: what the vault, the broker and this
// daemon each know. A caller who is no operator gets the short form.
func (x *exchange) showStatus() error {
	ctx, cfg := x.r.Context(), x.h.cfg
	vs := cfg.Vault.Status(ctx)
	providers, problems := cfg.Broker.Providers(ctx, x.who)
	if providers == nil {
		providers = []api.ProviderStatus{}
	}
	st := api.Status{
		Vault:     api.VaultStatus{State: vs.State},
		Caller:    api.CallerStatus{UID: x.who.UID, User: x.who.User, Operator: x.who.Operator},
		Providers: providers,
		Problems:  []api.Problem{},
	}
	if cfg.Daemon != nil {
		st.Daemon = &api.DaemonStatus{Version: cfg.Daemon.Version}
	}
	if !x.who.Operator {
		return x.answer(st)
	}
	st.Vault.Dir, st.Vault.Generation = vs.Dir, vs.Generation
	if cfg.Daemon != nil {
		st.Daemon = cfg.Daemon
	}
	if vs.Key.Provider != "" {
		st.Key = &api.KeyStatus{Provider: vs.Key.Provider, Detail: keyDetail(vs.Key)}
	}
	st.Problems = append(st.Problems, problems...)
	if vs.State == vault.Broken {
		e := api.AsError(vs.Problem)
		if e == nil {
			e = api.Errorf(api.Internal, "it cannot be opened")
		}
		st.Problems = append(st.Problems, api.Problem{What: "vault", Why: e.Message, Hint: e.Hint})
	}
	if err := cfg.Vault.SigningFault(); err != nil {
		st.Problems = append(st.Problems, api.Problem{What: "audit log", Why: "it is not signed: " + err.Error(), Hint: "aivault audit verify"})
	}
	st.Audit = cfg.Vault.AuditStatus(ctx)
	if cfg.Process != nil {
		st.Process = cfg.Process()
	}
	st.Strength = strength(vs, cfg.Daemon, st.Process)
	return x.answer(st)
}

func keyDetail(p keysource.Params) string {
	switch p.Provider {
	case keysource.File:
		return p.Path
	case keysource.Env:
		return p.EnvVar
	}
	return ""
}

// strength says in one line what keeps an agent from the keys here.
func strength(vs vault.Status, d *api.DaemonStatus, p *api.ProcessStatus) string {
	who := "agents that run as this user can reach what this user can reach"
	switch {
	case d == nil:
		who = "no daemon: keys are used inside the caller's own process"
	case d.Shared:
		who = "shared socket: agents that run as another user can make calls and cannot reach the key"
	}
	key := "no vault yet"
	if vs.State == vault.Broken {
		key = "the vault cannot be used"
	}
	switch vs.Key.Provider {
	case keysource.File:
		key = "key in a file that only this user and root can read"
	case keysource.Env:
		key = "key in an environment variable that its other programs can read too"
	case keysource.Passphrase:
		key = "key from a passphrase that is stored nowhere"
	}
	return strings.Join(append([]string{key, who}, leftOpen(p)...), "; ")
}

// leftOpen says which of a process's guards are not in force.
func leftOpen(p *api.ProcessStatus) []string {
	if p == nil {
		return nil
	}
	var all []string
	for _, guard := range []struct {
		missing bool
		so      string
	}{
		{p.Dumpable, "other processes of this user can read this one's memory"},
		{p.CoreDumps, "a crash can write its memory to disk"},
		{!p.LockedMemory, "keys can be swapped to disk"},
		{!p.NoNewPrivs, "what it starts can gain rights"},
		{!p.CleanEnv, "its environment can steer it"},
	} {
		if guard.missing {
			all = append(all, guard.so)
		}
	}
	return all
}
