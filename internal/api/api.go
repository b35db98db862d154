// Package api holds the words that aivault and aivaultd exchange: the
// requests and answers of the daemon's API, its error codes, and the one
// table that gives each code its exit status and HTTP status.
//
// docs/openapi.yaml describes the same API for other clients; a test compares
// the two.
package api

import "moldable.sh/aivault/internal/secret"

// Version is sent as Aivault-Api with every answer. It is raised by each
// addition; nothing is ever taken away.
const Version = 5

// Header names of the daemon's own. An upstream's Aivault-* headers are
// dropped, and a caller's are refused inside a request.
const (
	HeaderAPI     = "Aivault-Api"     // Version, on every answer
	HeaderAnswer  = "Aivault-Answer"  // "upstream" where body and status are the upstream's
	HeaderPlanned = "Aivault-Planned" // JSON of Planned, beside Aivault-Answer
	HeaderError   = "Aivault-Error"   // trailer: code of what failed after the first byte
	// HeaderErrorMessage is a trailer beside HeaderError: what failed, in words,
	// as a quoted string of ASCII (Go's, which is also JSON's but for \x and \U).
	HeaderErrorMessage = "Aivault-Error-Message"
)

// Routes of the API.
const (
	RouteProxy        = "/aivault/proxy"
	RouteStatus       = "/aivault/status"
	RouteCapabilities = "/aivault/capabilities"
	RouteInit         = "/aivault/init"
	RouteUnlock       = "/aivault/unlock"
	RouteLock         = "/aivault/lock"
	RouteRotateMaster = "/aivault/rotate-master"
	RouteSecrets      = "/aivault/secrets"
	RouteCredentials  = "/aivault/credentials"
	RouteAudit        = "/aivault/audit"
	RouteAuditExport  = "/aivault/audit/export"
	RouteAuditFollow  = "/aivault/audit/follow"
	RouteBackup       = "/aivault/backup"
	RouteRestore      = "/aivault/restore"
	RouteExplain      = "/aivault/explain"
	RoutePolicies     = "/aivault/policies"
	RouteBindings     = "/aivault/bindings"
	RouteGrants       = "/aivault/grants"
	RouteRegistry     = "/aivault/registry"
	RouteOAuth        = "/aivault/oauth"
	RouteOAuthLogins  = "/aivault/oauth/logins"
	RouteOAuthSetup   = "/aivault/oauth/setup"
)

// Header is one header field of a call. Order and repetition are kept.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Call is the envelope of POST /aivault/proxy. A body that is too large or too
// binary for JSON travels as the second part of a multipart/form-data request
// whose first part, named "envelope", is this object, and whose second part,
// named "body", may declare its Content-Length.
type Call struct {
	Capability  string  `json:"capability"`
	Credential  string  `json:"credential,omitzero"`
	WorkspaceID string  `json:"workspaceId,omitzero"`
	GroupID     string  `json:"groupId,omitzero"`
	TimeoutMs   int64   `json:"timeoutMs,omitzero"` // for the whole call; 0: no limit but the idle one
	Request     Request `json:"request"`
}

// Request is what the upstream is to be asked. There is no host in it: the
// host comes from policy.
type Request struct {
	Method  string  `json:"method,omitzero"` // default: the capability's
	Path    string  `json:"path,omitzero"`   // may carry a query; default: the capability's
	Headers Headers `json:"headers,omitzero"`
	Body    *string `json:"body,omitzero"`
}

// Planned says what a call became: it is sent back in HeaderPlanned.
type Planned struct {
	Capability string `json:"capability"`
	Credential string `json:"credential"`
	Method     string `json:"method"`
	URL        string `json:"url"` // without anything that auth added
}

// Status is the answer of GET /aivault/status. A caller who is no operator
// gets only Vault.State, Daemon.Version, Caller and Providers.
type Status struct {
	Vault     VaultStatus      `json:"vault"`
	Key       *KeyStatus       `json:"key,omitzero"`
	Daemon    *DaemonStatus    `json:"daemon,omitzero"` // absent in-process
	Caller    CallerStatus     `json:"caller"`
	Providers []ProviderStatus `json:"providers"`
	Problems  []Problem        `json:"problems"`
	Strength  string           `json:"strength,omitzero"` // one line: how strong this installation is
	Audit     *AuditStatus     `json:"audit,omitzero"`
	Process   *ProcessStatus   `json:"process,omitzero"`
}

// AuditStatus describes the log. Key is there while the vault is open.
type AuditStatus struct {
	Key        string `json:"key,omitzero"` // verifier key of the checkpoints, as of golang.org/x/mod/sumdb/note
	Durability string `json:"durability"`   // batch or sync
	Records    uint64 `json:"records"`      // seq of the last one
	Checkpoint uint64 `json:"checkpoint"`   // seq up to which the log is signed; 0: nothing is
}

// ProcessStatus is what really is in force in the process that answers, as the
// kernel tells it: not what was asked for.
type ProcessStatus struct {
	Dumpable     bool   `json:"dumpable"`      // other processes of this user may read its memory
	CoreDumps    bool   `json:"coreDumps"`     // a crash may write memory to disk
	NoNewPrivs   bool   `json:"noNewPrivs"`    // it and its children can gain no rights by executing a file
	LockedMemory bool   `json:"lockedMemory"`  // keys are in memory that is neither swapped nor dumped
	CleanEnv     bool   `json:"cleanEnv"`      // its environment holds none but aivault's own variables
	Note         string `json:"note,omitzero"` // why something is not in force
}

// VaultStatus tells where the vault is and whether it is open.
type VaultStatus struct {
	Dir        string `json:"dir,omitzero"`
	State      string `json:"state"` // none, locked, unlocked, broken
	Generation uint64 `json:"generation,omitzero"`
}

// KeyStatus names the key provider in use.
type KeyStatus struct {
	Provider string `json:"provider"`
	Detail   string `json:"detail,omitzero"` // the key file's path, the variable's name
}

// DaemonStatus describes the daemon that answered.
type DaemonStatus struct {
	Socket  string `json:"socket,omitzero"`
	Shared  bool   `json:"shared"`
	PID     int    `json:"pid,omitzero"`
	Version string `json:"version"`
}

// CallerStatus is who the daemon takes the caller for.
type CallerStatus struct {
	UID      uint32 `json:"uid"`
	User     string `json:"user,omitzero"`
	Operator bool   `json:"operator"`
}

// ProviderStatus is one provider that has a credential, or waits for secrets.
type ProviderStatus struct {
	Provider     string   `json:"provider"`
	Ready        bool     `json:"ready"`
	Capabilities int      `json:"capabilities"`
	Waiting      []string `json:"waiting,omitzero"` // secret names that are still missing
}

// Problem is an entry that is broken, or something unsafe about the
// installation.
type Problem struct {
	What string `json:"what"` // e.g. "credential acme"
	Why  string `json:"why"`
	Hint string `json:"hint,omitzero"`
	Soon bool   `json:"soon,omitzero"` // nothing fails for it yet
}

// CapabilityQuery chooses what GET /aivault/capabilities lists; the zero value
// is everything.
type CapabilityQuery struct {
	Provider string // of this provider alone
	Usable   bool   // what is ready, and what is off though there is a credential
}

// ShowUsable is the value of the query's show that Usable stands for.
const ShowUsable = "usable"

// CapabilityList is the answer of GET /aivault/capabilities.
type CapabilityList struct {
	Capabilities []CapabilitySummary `json:"capabilities"`
	Sets         []CapabilitySet     `json:"sets"`
	Available    []AvailableProvider `json:"available"` // registry providers without a credential
}

// CapabilitySummary is one line of the list.
type CapabilitySummary struct {
	ID          string   `json:"id"`
	Provider    string   `json:"provider"`
	Ready       bool     `json:"ready"`
	Off         bool     `json:"off,omitzero"`
	Origin      string   `json:"origin"` // registry or custom
	Access      string   `json:"access,omitzero"`
	Methods     []string `json:"methods"`
	Description string   `json:"description,omitzero"`
	Reason      string   `json:"reason,omitzero"` // why it is not ready
}

// CapabilitySet is a name for several capabilities. A call on it goes to the
// most specific member that admits the method and the path.
type CapabilitySet struct {
	ID          string   `json:"id"`
	Provider    string   `json:"provider"`
	Description string   `json:"description,omitzero"`
	Ready       bool     `json:"ready"` // some member is
	Members     []string `json:"members"`
}

// AvailableProvider is a registry provider for which the vault has no secret.
type AvailableProvider struct {
	Provider     string   `json:"provider"`
	Title        string   `json:"title"`
	Capabilities int      `json:"capabilities"`
	Secrets      []string `json:"secrets"`        // what to store for its usual login
	Login        bool     `json:"login,omitzero"` // it is a person's: aivault oauth login
}

// RegistryList is the answer of GET /aivault/registry. What GET
// /aivault/registry/ID answers is the provider's file itself.
type RegistryList struct {
	Providers []RegistryProvider `json:"providers"`
}

// RegistryProvider is a provider that the registry describes.
type RegistryProvider struct {
	Provider     string   `json:"provider"`
	Title        string   `json:"title"`
	Capabilities int      `json:"capabilities"`
	Secrets      []string `json:"secrets"`        // what to store for its usual login; none: this version has no login of it yet
	Login        bool     `json:"login,omitzero"` // it is a person's: aivault oauth login
}

// CapabilityDetail is the answer of GET /aivault/capabilities/ID.
type CapabilityDetail struct {
	Capability  string          `json:"capability"`
	Provider    string          `json:"provider"`
	Origin      string          `json:"origin"`
	Access      string          `json:"access,omitzero"`
	Description string          `json:"description,omitzero"`
	Ready       bool            `json:"ready"`
	Off         bool            `json:"off,omitzero"`
	Reason      string          `json:"reason,omitzero"`
	Members     []string        `json:"members,omitzero"`  // of a set
	Overlaps    []string        `json:"overlaps,omitzero"` // capabilities that admit some of its calls, too
	Limited     []string        `json:"limited,omitzero"`  // of one just made: those of Overlaps whose policies do not hold for it
	Allowed     Allowed         `json:"allowed"`
	Call        CapabilityCall  `json:"call"`
	Setup       CapabilitySetup `json:"setup"`
	Credential  string          `json:"credential,omitzero"`
	// OnlyCredential is the one credential that it was made for; the operator
	// alone is told.
	OnlyCredential string  `json:"onlyCredential,omitzero"`
	Policy         *Policy `json:"policy,omitzero"` // its limits
	// IssuesToken are JSON pointers to the values that are removed from its
	// answers, which have to be JSON: new tokens, passwords and keys.
	IssuesToken []string `json:"issuesToken,omitzero"`
}

// Allowed is what a capability lets through.
type Allowed struct {
	Hosts        []string `json:"hosts"`
	Methods      []string `json:"methods"`
	PathPrefixes []string `json:"pathPrefixes"` // as written in rules: /p, =/p, with * inside a segment
	// Operations are what a body may ask for: "GraphQL query", "JSON-RPC eth_call".
	// Absent where the body is not read.
	Operations []string `json:"operations,omitzero"`
}

// CapabilityCall shows how the capability is called.
type CapabilityCall struct {
	Defaults CallDefaults `json:"defaults"`
	Example  string       `json:"example,omitzero"` // a complete command line
}

// CallDefaults is the capability's default call; a field is empty where there
// is none.
type CallDefaults struct {
	Method string `json:"method,omitzero"`
	Path   string `json:"path,omitzero"`
}

// CapabilitySetup says what is needed before the first call.
type CapabilitySetup struct {
	RequiredSecrets []string `json:"requiredSecrets"`
	Commands        []string `json:"commands"`
	GetKey          string   `json:"getKey,omitzero"` // where the key comes from
}

// CapabilityCreate is the body of POST /aivault/capabilities.
type CapabilityCreate struct {
	ID         string   `json:"id"`
	Provider   string   `json:"provider,omitzero"`   // default: the part of ID before the slash
	Credential string   `json:"credential,omitzero"` // restricts the capability to one credential
	Methods    []string `json:"methods"`
	Paths      []string `json:"paths"`
	Host       string   `json:"host,omitzero"` // default: the credential's only host
	// IssuesToken are JSON pointers to what is removed from its answers: new
	// tokens. '*' stands for each element of an array, or member of an object.
	IssuesToken []string `json:"issuesToken,omitzero"`
}

// Secret is a secret as every API shows it: without its value.
type Secret struct {
	ID             string   `json:"secretId"`
	Name           string   `json:"name"`
	Aliases        []string `json:"aliases"`
	Scope          string   `json:"scope"`
	AttachedGroups []string `json:"attachedGroups,omitzero"` // scopes of the groups that may use it beside its own
	PinnedProvider string   `json:"pinnedProvider"`          // "": not pinned
	PinnedTenant   string   `json:"pinnedTenant,omitzero"`   // e.g. shop=my-store
	Version        uint64   `json:"version"`
	CreatedAtMs    int64    `json:"createdAtMs"`
	RotatedAtMs    int64    `json:"rotatedAtMs,omitzero"`
	// What it did. Create always says so, "" and [] where it did nothing;
	// update does when it put the secret to work. After a rotation, waiting are
	// the secrets that have to be rotated, too: a certificate and its key.
	Credential   *string  `json:"credential,omitzero"`
	Capabilities []string `json:"capabilities,omitzero"`
	Waiting      []string `json:"waiting,omitzero"`
}

// SecretList is the answer of GET /aivault/secrets.
type SecretList struct {
	Secrets []Secret `json:"secrets"`
}

// SecretCreate is the body of POST /aivault/secrets.
type SecretCreate struct {
	Name    string       `json:"name"`
	Value   secret.Value `json:"value"`
	Scope   string       `json:"scope,omitzero"` // global, workspace:W or group:W:G; default global
	Aliases []string     `json:"aliases,omitzero"`
	// Only, when not empty, are the patterns of the capabilities that the
	// automatic credential may be used for; the others stay off for it.
	Only []string `json:"only,omitzero"`
}

// SecretAttach is the body of POST and DELETE /aivault/secrets/REF/groups.
type SecretAttach struct {
	WorkspaceID string `json:"workspaceId"`
	GroupID     string `json:"groupId"`
}

// SecretImport is the body of POST /aivault/secrets/import: all of it is done
// in one change, or nothing.
type SecretImport struct {
	Entries []SecretEntry `json:"entries"`
	Scope   string        `json:"scope,omitzero"`
	DryRun  bool          `json:"dryRun,omitzero"`
}

// SecretEntry is one name with its value.
type SecretEntry struct {
	Name  string       `json:"name"`
	Value secret.Value `json:"value"`
}

// SecretImported is the answer: what became, or would become, of each entry.
type SecretImported struct {
	DryRun  bool             `json:"dryRun,omitzero"`
	Created []SecretImportOf `json:"created"`
	Rotated []SecretImportOf `json:"rotated"`
	Skipped []SecretImportOf `json:"skipped"`
}

// SecretImportOf is one line of an import's summary.
type SecretImportOf struct {
	Name           string   `json:"name"`
	SecretID       string   `json:"secretId,omitzero"` // none in a dry run
	PinnedProvider string   `json:"pinnedProvider,omitzero"`
	Credential     string   `json:"credential,omitzero"`
	Waiting        []string `json:"waiting,omitzero"`
	Reason         string   `json:"reason,omitzero"` // of what was skipped
}

// SecretUpdate is the body of PATCH /aivault/secrets/REF. Aliases are added.
type SecretUpdate struct {
	NewName      string   `json:"newName,omitzero"`
	Aliases      []string `json:"aliases,omitzero"`
	ClearAliases bool     `json:"clearAliases,omitzero"`
}

// SecretRotate is the body of POST /aivault/secrets/REF/rotate.
type SecretRotate struct {
	Value secret.Value `json:"value"`
}

// SecretDeleted is the answer of DELETE /aivault/secrets/REF.
type SecretDeleted struct {
	Secret      Secret   `json:"secret"`
	Credentials []string `json:"credentials"`     // credentials that went with it
	Notice      string   `json:"notice,omitzero"` // e.g. that bindings to them are left
}

// Credential is a credential as every API shows it.
type Credential struct {
	ID        string            `json:"id"`
	Provider  string            `json:"provider"`
	Origin    string            `json:"origin"` // registry or custom
	Scope     string            `json:"scope"`
	Auth      string            `json:"auth"` // strategies, e.g. header
	Secrets   map[string]string `json:"secrets"`
	Hosts     []string          `json:"hosts"`
	Ready     bool              `json:"ready"`
	Problem   string            `json:"problem,omitzero"`
	CreatedAt int64             `json:"createdAtMs"`
	// AuthSpec is how a custom provider's authenticates, as its maker said.
	AuthSpec *AuthSpec `json:"authSpec,omitzero"`
	// The operator's exceptions:
	CAs                 int      `json:"caCertificates,omitzero"`
	CAPEM               string   `json:"caPem,omitzero"`
	AllowPrivateNetwork bool     `json:"allowPrivateNetwork,omitzero"`
	AllowPorts          []int    `json:"allowPorts,omitzero"`
	AllowHTTP           bool     `json:"allowHttp,omitzero"`
	PublicParts         []string `json:"publicParts,omitzero"` // custom: fields whose values are no secrets
	Only                []string `json:"only,omitzero"`        // capabilities that it may be used for, as patterns
	Tenant              string   `json:"tenant,omitzero"`      // e.g. shop=my-store
	// Token is what its maker said of its tokens.
	Token *TokenOptions `json:"token,omitzero"`
	// Notice is what its maker should know: that the registry has this host,
	// say.
	Notice string `json:"notice,omitzero"`
}

// CredentialList is the answer of GET /aivault/credentials.
type CredentialList struct {
	Credentials []Credential `json:"credentials"`
}

// CredentialCreate is the body of POST /aivault/credentials.
type CredentialCreate struct {
	ID         string            `json:"id"`
	Provider   string            `json:"provider"`
	SecretRefs map[string]string `json:"secretRefs"`     // field -> vault:secret:ID, id, name or alias
	Scope      string            `json:"scope,omitzero"` // global, workspace:W or group:W:G; default global
	Auth       *AuthSpec         `json:"auth,omitzero"`
	Hosts      []string          `json:"hosts,omitzero"` // name[:port]; of a registry provider: the tenant's host
	// PublicParts are fields of a custom provider whose values are no secrets.
	PublicParts []string `json:"publicParts,omitzero"`
	// The operator's exceptions, for this credential alone:
	CAPEM               string `json:"caPem,omitzero"`
	AllowPrivateNetwork bool   `json:"allowPrivateNetwork,omitzero"`
	AllowPorts          []int  `json:"allowPorts,omitzero"`
	AllowHTTP           bool   `json:"allowHttp,omitzero"` // plain http, to loopback or private addresses alone
	// Token narrows or directs the tokens of the credential.
	Token *TokenOptions `json:"token,omitzero"`
}

// KeyOptions choose a key provider, for init and rotate-master.
type KeyOptions struct {
	Provider   string       `json:"provider,omitzero"` // file, env, passphrase
	FilePath   string       `json:"filePath,omitzero"` // file: another place than the default
	EnvVar     string       `json:"envVar,omitzero"`   // env: another variable than AIVAULT_KEY
	Key        secret.Value `json:"key,omitzero"`      // env: the variable's value, read by the CLI; file: a key to use instead of a new one
	Passphrase secret.Value `json:"passphrase,omitzero"`
}

// Unlock is the body of POST /aivault/unlock.
type Unlock struct {
	Passphrase secret.Value `json:"passphrase,omitzero"`
	Key        secret.Value `json:"key,omitzero"`   // env provider
	ForMs      int64        `json:"forMs,omitzero"` // lock again after so long
}

// VaultChanged is the answer of init, unlock, lock and rotate-master.
type VaultChanged struct {
	State      string `json:"state"`
	Generation uint64 `json:"generation,omitzero"`
	Provider   string `json:"provider,omitzero"`
	Notice     string `json:"notice,omitzero"` // e.g. that there was nothing to unlock
}

// MaxAuditRecords is how many records one answer has at most.
const MaxAuditRecords = 10000

// AuditList is the answer of GET /aivault/audit: the newest records that were
// asked for, oldest first, each as its line stands in the log.
type AuditList struct {
	Records []RawRecord `json:"records"`
}

// RawRecord is one line of the audit log, kept as it is.
type RawRecord []byte

// MarshalJSON implements json.Marshaler.
func (r RawRecord) MarshalJSON() ([]byte, error) { return r, nil }

// UnmarshalJSON implements json.Unmarshaler.
func (r *RawRecord) UnmarshalJSON(b []byte) error { *r = append((*r)[:0], b...); return nil }
