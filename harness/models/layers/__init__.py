"""State-space layers, one file each; `base` is what all are, `capabilities` what only some can."""
