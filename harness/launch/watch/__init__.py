"""Watching a launch from outside: the note that its driver leaves in the store, and metrics."""
