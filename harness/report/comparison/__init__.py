"""Which trials are one row of the comparison, what it is measured against, and the table."""
