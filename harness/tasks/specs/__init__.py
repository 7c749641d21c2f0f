"""The options of each task: one frozen, validated model per task, without any data.

A spec also knows what a plan needs before any data exist: family, metric and shapes.
"""

from harness.spec import SpecUnion

from .base import TaskSpecBase
from .embedded import DigitsSpec, ListopsSpec, PathfinderGeneratedSpec, PylibSpec, VowelsSpec
from .images import FashionSpec, PathfinderSpec, PathxSpec, PsmnistSpec, ScifarSpec, SmnistSpec
from .own import ArraysSpec, AudioFolderSpec, TextFileSpec
from .recall import CopyingSpec, InductionSpec, MqarSpec, SelectiveCopyingSpec
from .sound import Sc10Spec, SpeechCommandsSpec
from .text import AanSpec, Enwik8Spec, ImdbSpec, Text8Spec, Wikitext103Spec

TASK_SPECS: tuple[type[TaskSpecBase], ...] = (
    AanSpec,
    ArraysSpec,
    AudioFolderSpec,
    CopyingSpec,
    DigitsSpec,
    Enwik8Spec,
    FashionSpec,
    ImdbSpec,
    InductionSpec,
    ListopsSpec,
    MqarSpec,
    PathfinderSpec,
    PathfinderGeneratedSpec,
    PathxSpec,
    PsmnistSpec,
    PylibSpec,
    Sc10Spec,
    ScifarSpec,
    SelectiveCopyingSpec,
    SmnistSpec,
    SpeechCommandsSpec,
    Text8Spec,
    TextFileSpec,
    VowelsSpec,
    Wikitext103Spec,
)
TASK_UNION = SpecUnion("name", TASK_SPECS)  # including those of plug-ins

__all__ = [
    "TASK_SPECS",
    "TASK_UNION",
    "AanSpec",
    "ArraysSpec",
    "AudioFolderSpec",
    "CopyingSpec",
    "DigitsSpec",
    "Enwik8Spec",
    "FashionSpec",
    "ImdbSpec",
    "InductionSpec",
    "ListopsSpec",
    "MqarSpec",
    "PathfinderGeneratedSpec",
    "PathfinderSpec",
    "PathxSpec",
    "PsmnistSpec",
    "PylibSpec",
    "Sc10Spec",
    "ScifarSpec",
    "SelectiveCopyingSpec",
    "SmnistSpec",
    "SpeechCommandsSpec",
    "TaskSpecBase",
    "Text8Spec",
    "TextFileSpec",
    "VowelsSpec",
    "Wikitext103Spec",
]
