"""Planning: the missing trials of a suite, their order, forks and cost."""
