package cli

import (
	"cmp"

	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/grant"
)

// The kinds of scope, as --scope takes them.
const (
	scopeGlobal    = "global"
	scopeWorkspace = "workspace"
	scopeGroup     = "group"
)

// scopeFlags name a scope: by the ids of a workspace and a group, and, for who
// wants to be sure, by its kind.
type scopeFlags struct {
	kind, workspace, group string
}

// newScopeFlags adds the flags to cmd; whose says what the scope is of.
func newScopeFlags(cmd *cobra.Command, whose string) *scopeFlags {
	s := &scopeFlags{}
	f := cmd.Flags()
	f.StringVar(&s.kind, "scope", "", whose+", a `SCOPE`: global, workspace or group (default: what the ids say)")
	f.StringVar(&s.workspace, "workspace-id", "", "the `WORKSPACE` of that scope")
	f.StringVar(&s.group, "group-id", "", "the `GROUP` of that scope, within the workspace")
	return s
}

// get is the scope in the form of the API.
func (s *scopeFlags) get(cmd *cobra.Command) (string, error) {
	if err := s.check(cmd); err != nil {
		return "", err
	}
	scope := grant.Scope{Workspace: s.workspace, Group: s.group}
	if err := s.fits(scope); err != nil {
		return "", err
	}
	return scope.String(), nil
}

// check refuses flags that say nothing or contradict each other. An id that
// is empty is most likely a variable that is not set: it must not come to mean
// the global scope.
func (s *scopeFlags) check(cmd *cobra.Command) error {
	for _, f := range []struct{ name, value string }{{"workspace-id", s.workspace}, {"group-id", s.group}} {
		if err := checkScopeID(cmd, f.name, f.value); err != nil {
			return err
		}
	}
	switch {
	case s.kind == scopeGlobal:
		for _, flag := range []string{"workspace-id", "group-id"} {
			if cmd.Flags().Changed(flag) {
				return api.Errorf(api.InvalidRequest, "--scope global and --%s exclude each other", flag)
			}
		}
		return nil
	case s.kind == scopeWorkspace, s.kind == scopeGroup, !cmd.Flags().Changed("scope"):
		return nil
	}
	err := api.Errorf(api.InvalidRequest, "--scope cannot be %+.80q: it takes global, workspace or group", s.kind)
	if scope, ok := grant.ParseScope(s.kind); ok {
		return err.WithHint("in its place write%s", scope.Flags())
	}
	return err
}

// fits says whether a scope is of the kind that --scope names.
func (s *scopeFlags) fits(scope grant.Scope) error {
	switch {
	case s.kind == scopeWorkspace && scope.Workspace == "":
		return api.Errorf(api.InvalidRequest, "--scope workspace needs --workspace-id")
	case s.kind == scopeWorkspace && scope.Group != "":
		return api.Errorf(api.InvalidRequest, "--scope workspace and --group-id exclude each other: a group's scope is --scope group")
	case s.kind == scopeGroup && (scope.Workspace == "" || scope.Group == ""):
		return api.Errorf(api.InvalidRequest, "--scope group needs --workspace-id and --group-id")
	case scope.Workspace == "" && scope.Group != "":
		return api.Errorf(api.InvalidRequest, "--group-id needs --workspace-id: a group belongs to a workspace")
	}
	return nil
}

// ofCall fills in the context of a call: what the flags name, what its
// envelope names already, and, for a call that names none, the variables.
func (s *scopeFlags) ofCall(cmd *cobra.Command, env grant.Scope, call *api.Call) error {
	if err := s.check(cmd); err != nil {
		return err
	}
	for _, v := range []struct {
		flag, value string
		to          *string
	}{
		{"workspace-id", s.workspace, &call.WorkspaceID},
		{"group-id", s.group, &call.GroupID},
	} {
		if err := sameOf(v.flag, v.value, v.to); err != nil {
			return err
		}
	}
	switch {
	case s.kind == scopeGlobal && (call.WorkspaceID != "" || call.GroupID != ""):
		return api.Errorf(api.InvalidRequest, "the request is for a workspace, and --scope is global")
	case s.kind == scopeGlobal:
		return nil
	case s.kind == scopeGroup:
		call.WorkspaceID = cmp.Or(call.WorkspaceID, env.Workspace)
		if call.WorkspaceID == env.Workspace { // a group of another workspace is another group
			call.GroupID = cmp.Or(call.GroupID, env.Group)
		}
	case s.kind == scopeWorkspace, call.GroupID != "":
		call.WorkspaceID = cmp.Or(call.WorkspaceID, env.Workspace)
	case call.WorkspaceID == "":
		call.WorkspaceID, call.GroupID = env.Workspace, env.Group
	}
	return s.fits(grant.Scope{Workspace: call.WorkspaceID, Group: call.GroupID})
}

// sameOf puts what a flag says where the envelope may say it already: then it
// must be the same.
func sameOf(flag, value string, to *string) error {
	if value != "" && *to != "" && value != *to {
		return api.Errorf(api.InvalidRequest, "the request and --%s name different ones", flag)
	}
	*to = cmp.Or(value, *to)
	return nil
}

func checkScopeID(cmd *cobra.Command, flag, id string) error {
	switch {
	case !cmd.Flags().Changed(flag):
		return nil
	case id == "":
		return api.Errorf(api.InvalidRequest, "--%s is empty", flag)
	case !api.ValidID(id):
		return api.Errorf(api.InvalidRequest, "--%s cannot be %+.80q: it has 1 to 64 of a-z, 0-9, '-', '_' and '.'", flag, id)
	}
	return nil
}

// attachFlags name a group, which both ids take.
type attachFlags struct{ workspace, group string }

func newAttachFlags(cmd *cobra.Command) *attachFlags {
	a := &attachFlags{}
	cmd.Flags().StringVar(&a.workspace, "workspace-id", "", "the group's `WORKSPACE`")
	cmd.Flags().StringVar(&a.group, "group-id", "", "the `GROUP`")
	return a
}

func (a *attachFlags) get(cmd *cobra.Command) (api.SecretAttach, error) {
	s := scopeFlags{kind: scopeGroup, workspace: a.workspace, group: a.group}
	if err := s.check(cmd); err != nil {
		return api.SecretAttach{}, err
	}
	if a.workspace == "" || a.group == "" {
		return api.SecretAttach{}, api.Errorf(api.InvalidRequest, "a group is named by --workspace-id and --group-id: give both")
	}
	return api.SecretAttach{WorkspaceID: a.workspace, GroupID: a.group}, nil
}
