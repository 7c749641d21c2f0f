"""The comparisons themselves, as typed Python: one module a topic, `Suite` objects inside."""
