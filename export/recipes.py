"""Versions of what the builders make: the part of them that a start with a warm cache needs.

Apart from the builders, because those import `onnx`, which a robot with a warm cache never loads.
A builder that is changed so that its output differs gets a new version here.
"""

from __future__ import annotations

#: Of `llm_graphs.build_language_model`.
LANGUAGE_MODEL = "llm-cpu-5"

#: Tail depths whose first block starts a group. Other depths work too; they compute from the
#: next deeper boundary.
DEFAULT_DEPTHS = (4, 6, 10, 13, 16, 22)

#: Of the builders of encoders: `efficientnet_lite`, `range_encoder`, `detectors`.
ENCODERS = "2"

#: Of `connection_graphs.build_connection`.
CONNECTION = "connection-1"

#: Of `starter_pack.make_starter_pack`; packs of the same version and seed are equal.
STARTER_PACK = "starter-2"
