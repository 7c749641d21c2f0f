"""ListOps, generated or from the Long Range Arena's release."""
