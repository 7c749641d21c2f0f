"""Several small decompositions at a time, each with one LAPACK thread.

LAPACK scales badly on matrices of some hundred rows: on 2 cores, the spectra of 6 systems of 384
states take 0.78 s with two threads on each in turn, and 0.63 s with one thread on each of two. The
results do not depend on how many run at a time either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Given = TypeVar("Given")
Found = TypeVar("Found")

WORTHWHILE = 48  # states from which on a thread of its own costs less than it saves


def workers(states: int, device: torch.device) -> int:
    """How many systems of so many states to work on at a time: 1 on a GPU, which is one queue."""
    return torch.get_num_threads() if device.type == "cpu" and states >= WORTHWHILE else 1


def side_by_side(
    function: Callable[[Given], Found], items: Sequence[Given], at_once: int
) -> list[Found]:
    """[function(item) for item in items], `at_once` at a time, each with one thread.

    An error is that of the first item that has one.
    """
    at_once = min(at_once, len(items))
    if at_once <= 1:
        return [function(item) for item in items]
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(threads)  # the workers' 1 would be that of later threads
