"""Checkpoints to engines: readers of weights, graph builders, quantisation."""
