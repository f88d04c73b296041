"""Drives run through the runtime in sensor time."""
