"""Sounds, recorded and synthesised."""
