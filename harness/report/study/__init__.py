"""The report of a study of timing: its answer, its figures and its page."""
