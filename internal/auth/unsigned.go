package auth

import (
	"moldable.sh/aivault/internal/egress"
	"moldable.sh/aivault/internal/policy"
)

// SignsBody implements Strategy: what only renders fields signs nothing.

func (basic) SignsBody(*policy.Request, egress.Destination) bool       { return false }
func (header) SignsBody(*policy.Request, egress.Destination) bool      { return false }
func (multiHeader) SignsBody(*policy.Request, egress.Destination) bool { return false }
func (query) SignsBody(*policy.Request, egress.Destination) bool       { return false }
func (multiQuery) SignsBody(*policy.Request, egress.Destination) bool  { return false }
func (path) SignsBody(*policy.Request, egress.Destination) bool        { return false }
