"""Sweeps of made worlds, ray cast."""
