"""The comparison: which trials form a row, what it is measured against, and the table."""
