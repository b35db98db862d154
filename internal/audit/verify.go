package audit

// VerifyConfig says what to verify, and against what.
type VerifyConfig struct {
	Dir        string // the log's directory
	VaultID    string // "": as Key names it
	Key        string // verifier key; "": signatures are not checked
	Checkpoint []byte // a signed checkpoint kept elsewhere; nil: none
}

// Report is what a verification found.
type Report struct {
	VaultID         string      `json:"vaultId"`
	Key             string      `json:"key,omitzero"`
	Records         uint64      `json:"records"` // lines that were read and follow
	FirstSeq        uint64      `json:"firstSeq,omitzero"`
	LastSeq         uint64      `json:"lastSeq,omitzero"`
	LastHash        string      `json:"lastHash,omitzero"`
	Segments        int         `json:"segments"`
	Checkpoints     int         `json:"checkpoints"`        // whose signatures hold
	SignedSeq       uint64      `json:"signedSeq,omitzero"` // of the last of them
	AfterCheckpoint uint64      `json:"afterCheckpoint"`    // records that follow it
	Problem         *ChainError `json:"problem,omitzero"`   // the first thing that is wrong
}

// Verify checks a log, offline, with the public key alone. The error is of
// what could not be read; what is wrong with the log is in the Report.
func Verify(cfg VerifyConfig) (Report, error) { panic("contract") }
