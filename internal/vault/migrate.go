package vault

import (
	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/audit"
	"moldable.sh/aivault/internal/strictjson"
)

// The members that a state of version 1 has. Nothing is read through these
// types: they tell whether a document holds more than its version allows, so
// that a member of version 2 is never half understood in a state that says 1.
// They stay as they are.
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
		Auth                *api.AuthSpec     `json:"auth,omitzero"`
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
)

// migrateV1 makes version 2 of a state that was decoded from plain, which
// says that it is of version 1. The change is one of memory: the document
// stays as it is until the next change of the vault, which writes version 2.
func (st *State) migrateV1(plain []byte) error {
	if err := strictjson.Unmarshal(plain, &stateV1{}); err != nil {
		return errNewer
	}
	st.Version = StateVersion
	st.GrantDefault = api.GrantAllow // what version 1 did for want of grants
	st.fillLists()
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
}

func fill[T any](list *[]T) {
	if *list == nil {
		*list = []T{}
	}
}

// lacksLists says that a list is missing or null.
func (st *State) lacksLists() bool {
	return st.Secrets == nil || st.Credentials == nil || st.Capabilities == nil ||
		st.Switches == nil || st.Policies == nil || st.Bindings == nil || st.Grants == nil
}
