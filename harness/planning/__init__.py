"""Planning: which trials a suite lacks, in which order, what they share and what they cost."""
