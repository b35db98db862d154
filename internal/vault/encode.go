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
// A state of an older version becomes one of the present; there is no way back.
func decodeState(plain []byte) (*State, error) {
	var st State
	if err := strictjson.Unmarshal(plain, &st); err != nil {
		return nil, errNewer
	}
	if st.Version != StateVersion {
		if err := st.migrate(plain); err != nil {
			return nil, err
		}
	}
	if st.lacksLists() {
		return nil, errDamaged
	}
	if err := st.check(); err != nil {
		return nil, err
	}
	return &st, nil
}
