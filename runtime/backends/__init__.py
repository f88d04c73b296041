"""Back ends that execute engines, one module each, chosen by name in the configuration."""
