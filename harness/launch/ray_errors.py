"""Ray's errors in one line: what happened, on which node, and what to do about it."""

from __future__ import annotations

import re
from typing import Literal

from harness.tools.inputs import cut

LONGEST = 500
UNFIT = "no worker can start"  # so begins the message if a node has no worker for the trial
LOST, MEMORY = "the node was lost", "whose memory was used up"
UNREACHABLE = "the worker cannot be reached"
FEWER = "fewer trials at a time (--concurrency) need less memory"
# Errors that would recur on every attempt of a worker that does not start.
LASTING = re.compile(
    r"(ModuleNotFound|Import|Value|Type|Attribute|Name|Syntax|Key|NotImplemented)Error\b"
)
RAISED = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b.*")
ADDRESS = re.compile(r"\b(?:ip|IP)[:=] ?([\w.:]+\w)")
STACK = re.compile(r"@ +0x|\*\*\* SIG|Stack trace")


def told(error: BaseException) -> tuple[Literal["fault", "refused"], str]:
    """Whether one of Ray's errors is the machine's fault, and a message for it.

    `refused` means that another attempt would end in the same way. Ray's classes are matched by
    name, so that none need be imported.
    """
    name, text = type(error).__name__, str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    found = ADDRESS.search(text)
    where = f" on node {found[1]}" if found else ""
    status: Literal["fault", "refused"] = "fault"
    if name == "OutOfMemoryError":
        used = re.search(r"was ([\d.]+ ?[kMGT]i?B / [\d.]+ ?[kMGT]i?B)", text)
        amount = f", {used[1]}" if used else ""
        said = f"Ray ended the worker{where}, {MEMORY}{amount}; {FEWER}"
    elif getattr(error, "actor_init_failed", False) or name == "RuntimeEnvSetupError":
        reason = _raised(lines)
        said = f"{UNFIT}{where}: {reason}"
        status = "refused" if LASTING.search(reason) else "fault"
    elif name == "NodeDiedError" or "node has died" in text or "node was terminated" in text:
        said = f"{LOST}{(found and f' ({found[1]})') or ''}"
    elif name == "ActorUnavailableError":
        said = f"{UNREACHABLE}{where}: its connection broke"
    elif name in ("ActorDiedError", "WorkerCrashedError"):
        detail = re.search(r"exit detail: (.*?)(?: There are some potential|$)", text, re.M)
        how = f" ({detail[1].strip()})" if detail else ""
        said = f"the worker{where} died{how}: killed, perhaps by the system for lack of memory, "
        said += f"or crashed; {FEWER}"
    elif name.startswith("RayTaskError"):
        said = f"in the worker{where}: {_raised(lines)}"
    else:
        said = f"{name}{where}: {lines[0]}"
    return status, cut(said, LONGEST)


def is_lack_of_memory(message: str) -> bool:
    """Whether a message of `told` says that memory was used up."""
    return MEMORY in message or "MemoryError" in message


def is_lost_node(message: str) -> bool:
    """Whether a message of `told` says that the node was lost."""
    return message.startswith(LOST)


def is_unreachable(message: str) -> bool:
    """Whether a message of `told` says that a worker cannot be reached: its node may be lost, which
    the head has yet to notice."""
    return message.startswith(UNREACHABLE)


def where(error: BaseException) -> str | None:
    """The address of the node that one of Ray's errors names."""
    found = ADDRESS.search(str(error))
    return found[1] if found else None


def refusal(error: BaseException, address: str) -> str:
    """Why a cluster that answers cannot be used from here, in one line."""
    cause = error.__cause__ or error  # Ray wraps a reason in "Failed to connect"
    text = str(cause)
    cluster = f"the Ray cluster at {address}"
    versions = re.findall(r"(Ray|Python): (\S+)", text)
    if "Version mismatch" in text and len(versions) == 4:
        there, here = (
            " and ".join(f"{name} {version}" for name, version in part)
            for part in (versions[:2], versions[2:])
        )
        return cut(f"{cluster} runs {there}; here are {here}. They must be the same", LONGEST)
    if "No node info found matching" in text:
        return (
            f"{cluster} has no node on this machine, where the driver would need one: "
            f"`ray start --address={address}` makes this machine a node; or use "
            "ray://HOST:10001, its head's server for drivers elsewhere"
        )
    return cut(f"cannot use {cluster}: {text.strip() or type(cause).__name__}", LONGEST)


def _raised(lines: list[str]) -> str:
    """The last line that names an exception, as at the end of a traceback."""
    named = [line for line in lines if RAISED.match(line)]
    return (named or lines)[-1]


def last_words(log: str) -> str:
    """The fatal error in the log of one of Ray's processes, or its last error; may be empty."""
    lines = [line for line in log.splitlines() if not STACK.search(line)]
    fatal = [line for line in lines if " C " in line]
    errors = [line for line in lines if " E " in line]
    line = (fatal[:1] or errors[-1:] or [""])[0]
    said = re.sub(r"^\[.*?\] (\(\w+\) )?(\w+\.(cc|h):\d+: )?", "", line).rpartition("what(): ")[2]
    return cut(re.sub(r"(\[\w+:\d+\] )?/\S+\(\+0x.*", "", said))


__all__ = [
    "UNFIT",
    "is_lack_of_memory",
    "is_lost_node",
    "is_unreachable",
    "last_words",
    "refusal",
    "told",
    "where",
]
