package daemon

const (
	sharedSocket  = "/var/run/aivault/aivaultd.sock"
	maxSocketPath = 107 // sun_path, less its NUL
)
