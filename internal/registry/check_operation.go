package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// checkOperation wants an operation that a body can be told by: one kind, on
// an endpoint that takes bodies alone, and no writing where the access says
// reading.
func checkOperation(c *Capability) error {
	o := c.Operation
	switch {
	case o == nil:
		return nil
	case (len(o.GraphQL) > 0) == (len(o.JSONRPC) > 0):
		return errors.New("operation wants either graphql or jsonrpc, and something in it")
	case !slices.Equal(c.Methods, []string{"POST"}):
		return errors.New("operation is told by a body: the one method is POST")
	}
	for i, kind := range o.GraphQL {
		switch {
		case !slices.Contains([]string{"query", "mutation", "subscription"}, kind) || slices.Contains(o.GraphQL[:i], kind):
			return fmt.Errorf("operation %s is not query, mutation or subscription, or there twice", api.Quote(kind))
		case kind == "mutation" && c.Access == "read":
			return errors.New("a read capability has the operation mutation")
		}
	}
	for i, name := range o.JSONRPC {
		if !ValidRPCMethod(strings.TrimSuffix(name, "*")) || slices.Contains(o.JSONRPC[:i], name) {
			return fmt.Errorf("method %s of JSON-RPC is no name, or there twice", api.Quote(name))
		}
	}
	return nil
}

// ValidRPCMethod says whether s is a name that a method of JSON-RPC may have
// here: letters, digits, '_', '.', ':' and '-', at most 128 of them.
func ValidRPCMethod(s string) bool {
	return shaped(s, lowerCase+upperCase+digits+"_.:-", "", 128)
}
