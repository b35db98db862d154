package api

import "moldable.sh/aivault/internal/secret"

// BackupRequest is the body of POST /aivault/backup, whose answer is the
// backup itself (application/octet-stream). What breaks it off after its first
// byte is named in the trailers HeaderError and HeaderErrorMessage.
type BackupRequest struct {
	Passphrase secret.Value `json:"passphrase,omitzero"` // seal the backup anew under this one
}

// RestoreRequest is the body of POST /aivault/restore, which accepts what is
// in place. A backup travels as the second part, named "backup", of a
// multipart/form-data request whose first part, named "envelope", is this
// object.
type RestoreRequest struct {
	Accept     uint64       `json:"accept,omitzero"` // generation to put back although the log knows a later one; 0: none
	Passphrase secret.Value `json:"passphrase,omitzero"`
	Key        secret.Value `json:"key,omitzero"` // env provider
}

// Restored is the answer of POST /aivault/restore.
type Restored struct {
	State      string `json:"state"`
	Generation uint64 `json:"generation,omitzero"` // of the vault now
	Provider   string `json:"provider,omitzero"`
	From       uint64 `json:"restoredGeneration"` // that was put back or accepted
	MovedLog   string `json:"movedLog,omitzero"`  // where the log that was in place is now, in the vault's directory
	Notice     string `json:"notice,omitzero"`    // e.g. that there was nothing to change
}
