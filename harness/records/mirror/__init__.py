"""The MLflow mirror: a view of the store that can be rebuilt at any time."""
