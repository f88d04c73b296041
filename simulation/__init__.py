"""Drives: nuScenes tables read and written, and small drives made here."""
