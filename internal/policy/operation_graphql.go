package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"

	"moldable.sh/aivault/internal/strictjson"
)

// Bounds of a GraphQL document: beyond them a server may stop reading where
// another goes on. Few documents have a hundredth of these.
const (
	maxDocumentTokens = 15_000
	maxDocumentDepth  = 200
)

// readGraphQL reads a GraphQL request. What stands in place of a document
// (persisted queries, extensions) is refused, and every operation of the
// document counts: which of them a server runs is the server's to say.
//
// The document is read twice, by a parser of the whole language and by a
// scanner that knows nothing but brackets, strings and comments. Where they
// find different operations, a third reader might find others yet: refused.
func (p *OperationRule) readGraphQL(body []byte) (*Operation, error) {
	var request struct {
		Query     jsontext.Value `json:"query"`
		Name      jsontext.Value `json:"operationName"`
		Variables jsontext.Value `json:"variables"`
	}
	if err := strictjson.Unmarshal(body, &request); err != nil {
		return nil, p.jsonError(err)
	}
	document, ok := text(request.Query)
	switch {
	case !ok:
		return nil, p.untold("in its body the field query is no text")
	case request.Name != nil && !isKind(request.Name, '"', 'n'):
		return nil, p.untold("in its body the field operationName is no text")
	case request.Variables != nil && !isKind(request.Variables, '{', 'n'):
		return nil, p.untold("in its body the field variables is no object")
	}
	found, why := scanDocument(document)
	if why != "" {
		return nil, p.untold("its document %s", why)
	}
	parsed, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: document}, maxDocumentTokens)
	switch {
	case err != nil:
		return nil, p.untold("its document %s", parseFailure(err))
	case !found.agrees(parsed):
		return nil, p.untold("its document can be read in two ways")
	}
	var names []string
	for _, name := range []string{opQuery, opMutation, opSubscription} {
		if slices.Contains(found.operations, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, p.untold("its document has no operation")
	}
	return &Operation{kindGraphQL, names}, nil
}

// parseFailure says where a document stops being one. The parser's own text
// repeats the document, and is not passed on.
func parseFailure(err error) string {
	at, ok := errors.AsType[*gqlerror.Error](err)
	if !ok || len(at.Locations) == 0 {
		return fmt.Sprintf("has more than %d words and marks", maxDocumentTokens)
	}
	return fmt.Sprintf("is no GraphQL from line %d, column %d", at.Locations[0].Line, at.Locations[0].Column)
}

// agrees says whether a parser found the same definitions.
func (f *definitions) agrees(parsed *ast.QueryDocument) bool {
	return parsed != nil && len(parsed.Fragments) == f.fragments &&
		slices.EqualFunc(f.operations, parsed.Operations, func(name string, o *ast.OperationDefinition) bool { return string(o.Operation) == name })
}
