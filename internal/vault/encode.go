package vault

import "moldable.sh/aivault/internal/strictjson"

// encodeState checks and encodes a state. Empty lists are lists, never null.
func encodeState(st *State) ([]byte, error) {
	st.fillLists()
	if err := st.check(); err != nil {
		return nil, err
	}
	return strictjson.Marshal(st)
}

// decodeState refuses whatever no version of encodeState would have written.
// A state of version 1 becomes one of version 2; there is no way back.
func decodeState(plain []byte) (*State, error) {
	var st State
	if err := strictjson.Unmarshal(plain, &st); err != nil {
		return nil, errNewer
	}
	switch {
	case st.Version == 1:
		if err := st.migrateV1(plain); err != nil {
			return nil, err
		}
	case st.Version != StateVersion:
		return nil, errNewer
	case st.lacksLists():
		return nil, errDamaged
	}
	if err := st.check(); err != nil {
		return nil, err
	}
	return &st, nil
}
