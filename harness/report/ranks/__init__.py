"""Rank stability: how early the ranking of a system's modes becomes final."""
