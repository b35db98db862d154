package daemon

const (
	sharedSocket  = "/Users/Shared/aivault/run/aivaultd.sock"
	maxSocketPath = 103 // sun_path, less its NUL
)
