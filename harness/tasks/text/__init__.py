"""Texts, byte by byte or character by character."""
