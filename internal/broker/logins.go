package broker

import "moldable.sh/aivault/internal/oauth"

// OAuth is where the Broker has its tokens from, for who logs a person in.
func (b *Broker) OAuth() *oauth.Source { return b.tokens }
