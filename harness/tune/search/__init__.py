"""The search itself: the only files of a study that import optuna."""
