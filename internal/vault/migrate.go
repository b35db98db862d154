package vault

import (
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/strictjson"
)

// The members that states of versions 1 and 2 have. Nothing is read through
// these types: they tell whether a document holds more than its version allows,
// so that a member of a later version is never half understood in a state that
// says it is older. They stay as they are.
type (
	stateV1 struct {
		Version      int            `json:"version"`
		Secrets      []secretV1     `json:"secrets"`
		Credentials  []credentialV1 `json:"credentials"`
		Capabilities []capabilityV1 `json:"capabilities"`
		AuditKey     string         `json:"auditKey"`
		AuditHead    audit.Head     `json:"auditHead"`
	}
	secretV1 struct {
		ID          string   `json:"id"`
		Name        string   `json:"name"`
		Aliases     []string `json:"aliases,omitzero"`
		Scope       string   `json:"scope"`
		Pin         string   `json:"pin,omitzero"`
		PinTenant   string   `json:"pinTenant,omitzero"`
		Field       string   `json:"field,omitzero"`
		Version     uint64   `json:"version"`
		CreatedAtMs int64    `json:"createdAtMs"`
		RotatedAtMs int64    `json:"rotatedAtMs,omitzero"`
		DEK         string   `json:"dek"`
		Value       string   `json:"value"`
	}
	credentialV1 struct {
		ID                  string            `json:"id"`
		Provider            string            `json:"provider"`
		Scope               string            `json:"scope"`
		Auto                bool              `json:"auto,omitzero"`
		Secrets             map[string]string `json:"secrets"`
		Auth                *authSpecV1       `json:"auth,omitzero"`
		Hosts               []string          `json:"hosts,omitzero"`
		CAPEM               string            `json:"caPem,omitzero"`
		AllowPrivateNetwork bool              `json:"allowPrivateNetwork,omitzero"`
		AllowPorts          []int             `json:"allowPorts,omitzero"`
		CreatedAtMs         int64             `json:"createdAtMs"`
	}
	capabilityV1 struct {
		ID          string   `json:"id"`
		Provider    string   `json:"provider"`
		Credential  string   `json:"credential,omitzero"`
		Hosts       []string `json:"hosts"`
		Methods     []string `json:"methods"`
		Paths       []string `json:"paths"`
		CreatedAtMs int64    `json:"createdAtMs"`
	}

	stateV2 struct {
		Version      int            `json:"version"`
		Secrets      []secretV2     `json:"secrets"`
		Credentials  []credentialV2 `json:"credentials"`
		Capabilities []capabilityV1 `json:"capabilities"`
		Switches     []api.Switch   `json:"switches"`
		Policies     []api.Policy   `json:"policies"`
		Bindings     []api.Binding  `json:"bindings"`
		Grants       []api.Grant    `json:"grants"`
		GrantDefault string         `json:"grantDefault"`
		AuditKey     string         `json:"auditKey"`
		AuditHead    audit.Head     `json:"auditHead"`
	}
	secretV2 struct {
		ID          string   `json:"id"`
		Name        string   `json:"name"`
		Aliases     []string `json:"aliases,omitzero"`
		Scope       string   `json:"scope"`
		Groups      []string `json:"groups,omitzero"`
		Pin         string   `json:"pin,omitzero"`
		PinTenant   string   `json:"pinTenant,omitzero"`
		Field       string   `json:"field,omitzero"`
		Version     uint64   `json:"version"`
		CreatedAtMs int64    `json:"createdAtMs"`
		RotatedAtMs int64    `json:"rotatedAtMs,omitzero"`
		DEK         string   `json:"dek"`
		Value       string   `json:"value"`
	}
	credentialV2 struct {
		ID                  string            `json:"id"`
		Provider            string            `json:"provider"`
		Scope               string            `json:"scope"`
		Auto                bool              `json:"auto,omitzero"`
		Secrets             map[string]string `json:"secrets"`
		Auth                *authSpecV1       `json:"auth,omitzero"`
		Hosts               []string          `json:"hosts,omitzero"`
		CAPEM               string            `json:"caPem,omitzero"`
		AllowPrivateNetwork bool              `json:"allowPrivateNetwork,omitzero"`
		AllowPorts          []int             `json:"allowPorts,omitzero"`
		AllowHTTP           bool              `json:"allowHttp,omitzero"`
		PublicParts         []string          `json:"publicParts,omitzero"`
		HostParams          map[string]string `json:"hostParams,omitzero"`
		Only                []string          `json:"only,omitzero"`
		CreatedAtMs         int64             `json:"createdAtMs"`
	}

	// authSpecV1 is the auth of both: strategies that render a value alone.
	authSpecV1 struct {
		Type             string          `json:"type"`
		HeaderName       string          `json:"headerName,omitzero"`
		ValueTemplate    string          `json:"valueTemplate,omitzero"`
		ParamName        string          `json:"paramName,omitzero"`
		PrefixTemplate   string          `json:"prefixTemplate,omitzero"`
		UsernameTemplate string          `json:"usernameTemplate,omitzero"`
		PasswordTemplate string          `json:"passwordTemplate,omitzero"`
		Headers          []api.AuthField `json:"headers,omitzero"`
		Params           []api.AuthField `json:"params,omitzero"`
	}
)

// migrate makes the present version of a state that was decoded from plain,
// which says that it is of an older one. The change is one of memory: the
// document stays as it is until the next change of the vault, which writes the
// present version.
func (st *State) migrate(plain []byte) error {
	switch st.Version {
	case 1:
		if err := strictjson.Unmarshal(plain, &stateV1{}); err != nil {
			return errNewer
		}
		st.GrantDefault = api.GrantAllow // what version 1 did for want of grants
		st.fillLists()
	case 2:
		if err := strictjson.Unmarshal(plain, &stateV2{}); err != nil {
			return errNewer
		}
		st.Tokens = []Token{}
	default:
		return errNewer
	}
	st.Version = StateVersion
	return nil
}

// newState is the state of a vault that holds nothing yet.
func newState() *State {
	st := &State{Version: StateVersion, GrantDefault: api.GrantAllow}
	st.fillLists()
	return st
}

// fillLists makes empty lists of those that are missing.
func (st *State) fillLists() {
	fill(&st.Secrets)
	fill(&st.Credentials)
	fill(&st.Capabilities)
	fill(&st.Switches)
	fill(&st.Policies)
	fill(&st.Bindings)
	fill(&st.Grants)
	fill(&st.Tokens)
}

func fill[T any](list *[]T) {
	if *list == nil {
		*list = []T{}
	}
}

// lacksLists says that a list is missing or null.
func (st *State) lacksLists() bool {
	return st.Secrets == nil || st.Credentials == nil || st.Capabilities == nil ||
		st.Switches == nil || st.Policies == nil || st.Bindings == nil || st.Grants == nil || st.Tokens == nil
}
