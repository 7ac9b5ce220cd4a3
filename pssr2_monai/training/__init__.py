"""Training a network: the run, its plan, its preview, its handlers."""
