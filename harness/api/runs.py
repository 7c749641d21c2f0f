"""`harness.run` and `harness.run_trial`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from harness.suite import TrialSpec, explain
from harness.tools.inputs import shown
from harness.tools.redact import redacted

from .stores import StoreLike, StoreView, existing_or_new
from .suites import SuiteLike, command_of, suite_of

if TYPE_CHECKING:
    import pandas as pd

    from harness.launch.run_suite import RunSummary


@dataclass(frozen=True, repr=False)
class SuiteRun:
    """The outcome of a run: `failures` has one line for each trial without a valid result and for
    each damaged record; `summary` says what the run took."""

    suite: str
    store: StoreView
    failures: list[str]
    summary: RunSummary

    def comparison(self) -> pd.DataFrame:
        """The comparison of the suite; see `StoreView.comparison`."""
        return self.store.comparison(self.suite)

    def __str__(self) -> str:
        lines = [*self.summary.lines(), *self.failures]
        if self.summary.published:
            lines.append(f"tables, figures and page: {self.summary.page}")
        return "\n".join(lines)

    __repr__ = __str__


def run(
    suite: SuiteLike,
    store: StoreLike = None,
    address: str | None = None,
    only: str | None = None,
    *,
    retry: Sequence[str] = (),
    cpus: int | None = None,
    gpus: float | Literal["auto"] | None = None,
    memory: str | None = None,
    accelerator: str | None = None,
    concurrency: int | None = None,
    fork: bool = True,
    name: str | None = None,
    quiet: bool = False,
) -> SuiteRun:
    """Plan, launch, record, report, as `harness run` does, and with the same options.

    Without an `address` it runs on this machine or, in one of Ray's jobs, on the cluster that runs
    the job. Running it again resumes; trials that have ended are not run again, unless `retry`
    names how they ended. Progress goes to standard error, unless `quiet`.

    Raises:
        ValueError: bad input, before anything starts or is written.
        KeyboardInterrupt: it was interrupted; what was done is kept, and the same call continues.
    """
    from harness.launch.address import default_address
    from harness.launch.preflight import default_cpus
    from harness.launch.resources import chosen
    from harness.launch.run_suite import RunOptions, run_suite

    wanted, place = suite_of(suite), existing_or_new(store, create=True)
    need = chosen(wanted.resources, cpus, gpus, memory, accelerator, default_cpus())
    options = RunOptions(
        default_address() if address is None else address, only, retry, need.cpus, need.gpus,
        concurrency, fork, name, quiet, need.memory, need.accelerator,
    )  # fmt: skip
    given = {
        "store": place.address, "address": address, "only": only, "cpus": cpus, "gpus": gpus,
        "memory": memory, "accelerator": accelerator, "concurrency": concurrency, "name": name,
    }  # fmt: skip
    words = [f"--{key}={value}" for key, value in given.items() if value is not None]
    words += [f"--retry={status}" for status in retry] + ([] if fork else ["--no-fork"])
    summary = run_suite(wanted, place, redacted(command_of(wanted, words)), options)
    if summary.interrupted:
        raise KeyboardInterrupt("what was done is kept; the same call goes on")
    said = "\n".join(summary.unfinished)
    damaged = [line for line in summary.damaged if line not in said]
    if not quiet:
        for line in summary.lines():
            print(line, file=sys.stderr)
    return SuiteRun(name or wanted.name, StoreView(place), summary.unfinished + damaged, summary)


def run_trial(spec: TrialSpec | Mapping[str, Any], store: StoreLike = None) -> dict[str, Any]:
    """Run one trial in this process to its end, and return its result, as in `result.json`.

    A trial with a checkpoint continues from it; the result of an ended trial is returned as it is.
    `spec` is a `TrialSpec`, or the content of a spec.json. Threads, deterministic algorithms,
    precision of products and random state of this process are restored afterwards.

    Raises:
        ValueError: a spec that says nothing, or a trial that cannot run as asked.
        KeyboardInterrupt: it was interrupted; a checkpoint was taken.
    """
    from harness.training.alone import run_alone

    return run_alone(_trial(spec), existing_or_new(store, create=True))


def _trial(spec: TrialSpec | Mapping[str, Any]) -> TrialSpec:
    if not isinstance(spec, TrialSpec | Mapping):
        raise ValueError(f"a trial is a TrialSpec or the dict of one; got {shown(spec)}")
    try:
        return TrialSpec.model_validate(spec if isinstance(spec, TrialSpec) else dict(spec))
    except ValidationError as error:
        raise ValueError(explain(error)) from None


__all__ = ["SuiteRun", "run", "run_trial"]
