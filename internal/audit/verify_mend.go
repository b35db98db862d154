package audit

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"moldable.sh/aivault/internal/durable"
)

// LogLost is what there is to do about a log that is missing or broken. Whoever
// knows which GENERATION the document in place has puts it there with
// ForGeneration.
const LogLost = "put the log back, or a backup: aivault restore FILE; or accept vault.aiv without it: aivault restore --accept GENERATION"

// ForGeneration names the generation of the document that a hint is about.
func ForGeneration(hint string, generation uint64) string {
	return strings.Replace(hint, "--accept GENERATION", "--accept "+strconv.FormatUint(generation, 10), 1)
}

// SignAnew opens the vault in a daemon, which signs a log that nothing signs.
const SignAnew = "aivault restart"

// Mend is how a log in use, which lies in dir, comes out of what is wrong with
// it: a line for a shell, or which there are to choose from.
func (e *ChainError) Mend(dir string) string {
	switch {
	case e.File == keyName:
		return "aivault doctor" // which knows the vault's own
	case e.File != checkpointsName:
		return LogLost
	case !exists(dir, segmentName(1)):
		// They alone say how the part ended that is no longer kept.
		return strings.Replace(LogLost, "the log", "the file "+checkpointsName, 1)
	}
	path := filepath.Join(dir, checkpointsName)
	if _, err := os.Lstat(path); err != nil {
		return SignAnew
	}
	return WriteAnew(path)
}

// WriteAnew puts a file beside the log out of the way, which a daemon that
// opens the vault then writes anew. It is kept: that somebody changed it is
// the finding.
func WriteAnew(path string) string {
	return durable.PutAside(path) + " && " + SignAnew
}
