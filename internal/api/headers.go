package api

import (
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/strictjson"
)

// MaxHeaders is how many header fields a call may have.
const MaxHeaders = 1000

// Headers are the header fields of a call. More than MaxHeaders are refused
// while they are read: an empty one takes three bytes of JSON and a dozen
// times as many in memory.
type Headers []Header

// UnmarshalJSONFrom implements json.UnmarshalerFrom, with the options that the
// decoder has.
func (h *Headers) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() != '[' {
		return json.UnmarshalDecode(dec, (*[]Header)(h)) // null, or an error that says what it must be
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	all := Headers{}
	for dec.PeekKind() != ']' {
		if len(all) == MaxHeaders {
			return &strictjson.Error{Why: "has more than " + strconv.Itoa(MaxHeaders) + " entries"}
		}
		var one Header
		if err := json.UnmarshalDecode(dec, &one); err != nil {
			return err
		}
		all = append(all, one)
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	*h = all
	return nil
}
