"""Studies of truncation timing. `search`, which needs optuna, is not imported here."""

from .study_spec import Budget, Floats, Ints, Setting, Space, Study

__all__ = ["Budget", "Floats", "Ints", "Setting", "Space", "Study"]
