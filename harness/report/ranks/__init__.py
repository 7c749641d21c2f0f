"""How early the order of a system's modes is the final one: the measures and their figure."""
