"""Checks before a launch starts or writes anything."""

from __future__ import annotations

from collections.abc import Iterable

from harness import environment
from harness.suite import TrialSpec
from harness.tools.notes import waiting
from harness.training.host.memory import check_memory


def default_cpus() -> int:
    """The default CPU cores of one trial: as many as its threads."""
    return environment.THREADS.get()


def check_launch(trials: Iterable[TrialSpec], address: str, cpus: int, gpus: float) -> None:
    """Refuse here what every worker would refuse, as far as this machine can tell.

    On a cluster (any address but `local`) the workers' devices cannot be checked from here.

    Raises:
        ValueError: an invalid `HARNESS_*` variable, or one that names a missing device; fewer CPUs
            than threads; a trial that needs more memory than there is; a backend that cannot run
            here; data that cannot be obtained.
    """
    trials = list(trials)
    environment.check()
    threads = environment.THREADS.get()
    if cpus < threads:
        raise ValueError(
            f"HARNESS_THREADS is {threads}: a trial needs as many CPUs, not --cpus {cpus}"
        )
    device = environment.DEVICE.get() or ("cuda" if gpus else "cpu")
    if address != "local":
        return
    if gpus:
        import torch

        if gpus > torch.cuda.device_count():
            raise ValueError(
                f"a trial asks for {gpus:g} GPUs; this machine has {torch.cuda.device_count()} "
                "that torch can use"
            )
    if environment.DEVICE.get() and device != "cpu":
        from harness.training.host.machine import pick_device

        pick_device()
    _check_memory(trials, device)
    for model in dict.fromkeys(trial.model for trial in trials):
        model.check_device(device)
    _bring_data(trials)


def _check_memory(trials: list[TrialSpec], device: str) -> None:
    gpu_bytes = None
    if device != "cpu":
        import torch

        there = range(torch.cuda.device_count())
        gpu_bytes = max(torch.cuda.get_device_properties(i).total_memory for i in there)
    # All seeds of a trial need the same memory.
    distinct = {(one.task, one.model, one.training, one.arm): one for one in trials}
    for trial in distinct.values():
        check_memory(trial, gpu_bytes)


def _bring_data(trials: list[TrialSpec]) -> None:
    """Download and process the archives that trials read, once and with visible progress.

    Raises:
        ValueError: data that are missing and cannot be obtained.
    """
    wanted = dict.fromkeys(t.task for t in trials if t.task.from_archives)
    for task in wanted:
        from harness import tasks

        with waiting(f"preparing the data of {task.name}"):
            tasks.build(task)


__all__ = ["check_launch", "default_cpus"]
