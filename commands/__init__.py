"""Sub-commands of `tailwire`, one module each; the only part that prints."""
