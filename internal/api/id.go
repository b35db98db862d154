package api

// ValidID says whether s may be an id that a person gives: of a provider, a
// credential, a workspace, a group, or the name part of a capability. It has 1
// to 64 of a-z, 0-9, '-', '_' and '.', and starts with a letter or digit.
func ValidID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '_' && c != '.') {
			return false
		}
	}
	return true
}
