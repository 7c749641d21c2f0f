"""How a worker's actor is asked for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from harness.environment import DEVICE, THREADS
from harness.tools.redact import redacted

from .jobs import Job

NODE_LABEL = "ray.io/node-id"  # every node has it
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def actor_options(
    job: Job, environment: dict[str, str], away: Collection[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Ray's options of an actor for this job, on none of the nodes `away`, and the variables that
    Ray must not see: it logs those that it sets, and its dashboard shows them."""
    variables = _variables(job, environment.get(THREADS.name, str(job.cpus))) | environment
    secret = {name: text for name, text in variables.items() if redacted(text) != text}
    shown = {name: text for name, text in variables.items() if name not in secret}
    selector = {NODE_LABEL: f"!in({','.join(sorted(away))})"}
    options = {
        "num_cpus": job.cpus,
        "num_gpus": job.gpus,
        "memory": job.memory or None,
        "accelerator_type": job.accelerator,
        "max_concurrency": 2,
        "max_restarts": 0,
        "runtime_env": {"env_vars": shown},
        **({"label_selector": selector} if away else {}),
    }
    return options, secret


def _variables(job: Job, threads: str) -> dict[str, str]:
    variables = dict.fromkeys(_THREAD_VARIABLES, threads)
    variables[DEVICE.name] = "cuda" if job.gpus else "cpu"
    if not job.gpus:  # on a GPU, threads keep the trial's own default, whatever its CPUs
        variables[THREADS.name] = threads
    return variables


__all__ = ["actor_options"]
