"""The one tree of errors. Every message says what was wrong, where, and what to do about it.

Library code raises these; only the command line turns them into an exit code.
"""

from __future__ import annotations

_MARK = " Remedy: "


class TailwireError(Exception):
    """Base of every error that Tailwire raises on purpose.

    Args:
        problem: what was wrong, in one sentence.
        field: where it was: a config key, a file, a tensor, a sensor name.
        remedy: what the reader can do about it.
    """

    def __init__(self, problem: str, *, field: str = "", remedy: str = "") -> None:
        self.problem = problem
        self.field = field
        self.remedy = remedy
        where = f"{field}: " if field else ""
        what_to_do = f"{_MARK}{remedy}" if remedy else ""
        super().__init__(f"{where}{_sentence(problem) if remedy else problem}{what_to_do}")


def without_remedy(message: str) -> str:
    """The text of an error up to what to do about it, to be joined with others."""
    return message.partition(_MARK)[0].removesuffix(".")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


class ConfigError(TailwireError):
    """A configuration value, an option or a manifest field is wrong."""


class ModelError(TailwireError):
    """A checkpoint is missing, corrupt, of the wrong hash, or of an unsupported architecture."""


class PackError(TailwireError):
    """A pack does not fit: hash, shape, base model or licence."""


class EngineError(TailwireError):
    """An engine cannot be built, loaded or run."""


class DeviceMemoryError(EngineError):
    """A device has no memory left for what an engine needs; others may still run there."""


class CacheError(TailwireError):
    """The cache folder cannot be written or read."""


class SensorError(TailwireError):
    """A sensor is unknown, or its frame cannot be used (truncated, empty, not finite)."""


class DataError(TailwireError):
    """A data set (nuScenes tables, sensor files, bags) is broken or missing."""


class BudgetError(TailwireError):
    """No plan fits the budget; the message names the cheapest plan and its cost."""
