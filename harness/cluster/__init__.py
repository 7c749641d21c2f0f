"""One description of a cluster, and the files for each place that can run it."""

from .description import Cluster
from .read import read_cluster
from .render import TARGETS, render, write

__all__ = ["TARGETS", "Cluster", "read_cluster", "render", "write"]
