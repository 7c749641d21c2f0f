"""Run trials on Ray, with resources, dependencies, retries and progress.

Only this room imports ray, and only when `launch` is called.
"""

from .driver import launch
from .jobs import Interrupted, Job, Jobs, Lost, Outcome

__all__ = ["Interrupted", "Job", "Jobs", "Lost", "Outcome", "launch"]
