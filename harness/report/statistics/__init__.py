"""Statistics of a comparison: pure functions of arrays with one value per seed."""
