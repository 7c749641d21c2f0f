"""One optimizer step: its batch, its loss, and how it is launched."""
