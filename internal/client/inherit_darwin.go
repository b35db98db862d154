package client

// inheritNothing keeps descriptors that this process inherited itself from the
// daemon that it starts. Those that Go opened are kept by Go.
func inheritNothing() error { return inheritNothingOf("/dev/fd") }
