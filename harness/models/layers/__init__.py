"""The layers, one file each; `base` is their contract, `capabilities` what only some can do."""
