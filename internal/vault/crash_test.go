package vault

func runVictim(string) {}
