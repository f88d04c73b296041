"""Pictures of made worlds, drawn on the CPU without a screen."""
