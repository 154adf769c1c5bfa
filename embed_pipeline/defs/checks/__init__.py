"""Asset checks, one module per stage: what must be true of an artifact, with a figure, a limit and a remedy."""
