"""Recall: generated sequences that ask for what stood earlier in them."""
