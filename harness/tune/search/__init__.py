"""The search itself: all of a study that imports optuna."""
