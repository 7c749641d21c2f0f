"""Shared by all tests: one thread, so that sums and timings do not depend on the machine."""

import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent / "reduction"))
