"""Tailwire: sensors wired into the tail of a language model, inside a compute budget."""

__version__ = "0.1.0"
