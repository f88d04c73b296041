"""Training of connections on the device; the only part of the runtime that may import torch."""
