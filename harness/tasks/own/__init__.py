"""Tasks on users' own files, without a line of code."""
