"""Peers that results are compared with; each runs in an environment of its own."""
