"""`harness doctor`: versions, devices and what works here."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator

from harness import environment
from harness.cli.naming import open_store
from harness.cli.options import AddressOption, StoreOption
from harness.cli.refusals import check_folder

PACKAGES = ("torch", "ray", "mlflow", "pyarrow", "pandas", "numpy", "scipy", "pydantic")


def doctor(address: AddressOption = None, store: StoreOption = None) -> int:
    """Show versions, devices and what works here, or on each node of a cluster (--address), where
    --store is also tried."""
    check_folder()
    if address not in (None, "local"):
        return _nodes(address, store)
    for line in examine():
        print(line)
    return 0


def _nodes(address: str, store: str | None) -> int:
    """Print a report of each node; 3 if one of them is unfit, or there is none."""
    from harness.launch import cluster
    from harness.launch.address import check_address
    from harness.launch.node_check import counted, described, reports, unlike

    place = None if store is None else open_store(store, create=True).absolute()
    check_address(address)
    with cluster.connected(address, 1) as ray:
        found = reports(ray, place)
    for report in found:
        for line in described(report):
            print(line)
    for line in unlike(found):
        print(f"note: {line}")
    unfit = sum(bool(report.faults) for report in found)
    print(f"{counted(len(found))} that may run trials, {unfit or 'none'} unfit")
    if place is None:
        print("no store was looked at: give --store")
    return 3 if unfit or not found else 0


def examine() -> Iterator[str]:
    """Lines of text: versions, devices, backends, settings."""
    yield f"python {platform.python_version()} on {platform.system()} {platform.machine()}"
    for name in PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{name} is not installed"
    import torch

    from harness.training.host.machine import cpu_name, thread_count

    yield f"cpu: {cpu_name()}, {os.cpu_count()} cores, {thread_count()} thread(s) a trial"
    if not torch.cuda.is_available():
        yield "gpu: none that torch can use"
    for i in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(i).total_memory / 2**30
        yield f"gpu {i}: {torch.cuda.get_device_name(i)}, {memory:.0f} GiB"
    yield from backends()
    yield from environment.described()


def backends() -> Iterator[str]:
    """The backend that computes a scan here, for a narrow and a wide model, and why."""
    import torch

    from harness.models.scans import choose
    from harness.models.scans.loops import LOOPS

    yield f"inner loops of the scan on a CPU: {LOOPS}"
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for width in (8, 512):
            shape = {"width": width, "state_dim": 256, "length": 1024, "batch": 8}
            choice = choose("auto", device=device, **shape)
            yield f"scan on {device}, width {width}: {choice.name} ({choice.reason})"
