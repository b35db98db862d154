package attack

func destinationAttacks() []Attack  { return nil }
func echoAttacks() []Attack         { return nil }
func policyAttacks() []Attack       { return nil }
func localAttacks() []Attack        { return nil }
func auditAttacks() []Attack        { return nil }
func installationAttacks() []Attack { return nil }
