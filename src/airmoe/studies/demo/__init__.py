"""The demonstration: train, serve, ask, kill two nodes, report."""
