package policy

import (
	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/strictjson"
)

// readJSONRPC reads one call of JSON-RPC 2.0. A batch is refused, and so is
// every member that the specification does not name.
func (p *OperationRule) readJSONRPC(body []byte) (*Operation, error) {
	var call struct {
		Version jsontext.Value `json:"jsonrpc"`
		Method  jsontext.Value `json:"method"`
		Params  jsontext.Value `json:"params"`
		ID      jsontext.Value `json:"id"`
	}
	if err := strictjson.Unmarshal(body, &call); err != nil {
		return nil, p.jsonError(err)
	}
	version, _ := text(call.Version)
	method, named := text(call.Method)
	switch {
	case version != "2.0":
		return nil, p.untold("in its body the field jsonrpc is not \"2.0\"")
	case !named || !registry.ValidRPCMethod(method):
		return nil, p.untold("in its body the field method is no name of a method")
	case call.Params != nil && !isKind(call.Params, '{', '['):
		return nil, p.untold("in its body the field params is no array and no object")
	case call.ID != nil && !isKind(call.ID, '"', '0', 'n'):
		return nil, p.untold("in its body the field id is no string and no number")
	}
	return &Operation{kindJSONRPC, []string{method}}, nil
}

// text is a JSON string's text.
func text(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return string(b), err == nil
}

func isKind(v jsontext.Value, kinds ...jsontext.Kind) bool {
	for _, k := range kinds {
		if v.Kind() == k {
			return true
		}
	}
	return false
}
