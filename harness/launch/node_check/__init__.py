"""Before a launch: what each node of a cluster is, has and sees, and whether they go together."""

from .check import check_places, reports
from .lines import counted, described, unlike
from .report import Report

__all__ = ["Report", "check_places", "counted", "described", "reports", "unlike"]
