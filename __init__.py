"""Tailwire: sensors wired into the tail of a language model, inside a compute budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .assembly import open_runtime
    from .runtime.adaptation.adapting import Adaptation
    from .runtime.adaptation.data import AdaptationData, KnownQuestion
    from .runtime.adaptation.outcome import AdaptationResult
    from .runtime.adaptation.request import AdaptationBudget, AdaptationRequest
    from .runtime.config import RuntimeConfig
    from .runtime.detected_objects import DetectedObject, objects_frame
    from .runtime.errors import TailwireError
    from .runtime.frames import SensorFrame, SensorGeometry
    from .runtime.pack import load_pack
    from .runtime.plans import Answer, Budget
    from .runtime.questions import Question
    from .runtime.runtime import Runtime

_HOMES = {
    "Adaptation": ".runtime.adaptation.adapting",
    "AdaptationBudget": ".runtime.adaptation.request",
    "AdaptationData": ".runtime.adaptation.data",
    "AdaptationRequest": ".runtime.adaptation.request",
    "AdaptationResult": ".runtime.adaptation.outcome",
    "Answer": ".runtime.plans",
    "Budget": ".runtime.plans",
    "DetectedObject": ".runtime.detected_objects",
    "KnownQuestion": ".runtime.adaptation.data",
    "Question": ".runtime.questions",
    "Runtime": ".runtime.runtime",
    "RuntimeConfig": ".runtime.config",
    "SensorFrame": ".runtime.frames",
    "SensorGeometry": ".runtime.frames",
    "TailwireError": ".runtime.errors",
    "load_pack": ".runtime.pack",
    "objects_frame": ".runtime.detected_objects",
    "open_runtime": ".assembly",
}
__all__ = [
    "Adaptation",
    "AdaptationBudget",
    "AdaptationData",
    "AdaptationRequest",
    "AdaptationResult",
    "Answer",
    "Budget",
    "DetectedObject",
    "KnownQuestion",
    "Question",
    "Runtime",
    "RuntimeConfig",
    "SensorFrame",
    "SensorGeometry",
    "TailwireError",
    "load_pack",
    "objects_frame",
    "open_runtime",
]


def __getattr__(name: str) -> object:
    # Names are loaded when asked for, so that `import tailwire` costs nothing.
    if name not in _HOMES:
        raise AttributeError(f"module 'tailwire' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name], __name__), name)
