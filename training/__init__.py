"""Offline training of encoders and connections on drives; needs torch."""
