"""Tasks of people's own data: files as they are, without a line of code."""
