"""The constants of TensorFlow.js models: one blob of numbers, cut up as a manifest declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import ModelError

_STORED = {"float32": np.float32, "float16": np.float16, "int32": np.int32, "uint8": np.uint8}

Array = NDArray[np.generic]


def read_weights(manifest: Sequence[Mapping[str, Any]], content: bytes) -> dict[str, Array]:
    """The constants of a graph model.

    Args:
        manifest: `weightsManifest` of the model's JSON.
        content: the weight files, one behind the other.

    Returns:
        Name to array: float32 (also where float16 is stored) or int32.

    Raises:
        ModelError: a type is stored that is not known here, or the content is too short or long.
    """
    weights: dict[str, Array] = {}
    offset = 0
    for spec in (spec for group in manifest for spec in group["weights"]):
        quantization = spec.get("quantization", {})
        stored = quantization.get("dtype", spec["dtype"])
        if stored not in _STORED or "scale" in quantization:
            raise ModelError(
                f"weights stored as {quantization or stored} are not read",
                field=spec["name"],
                remedy="take a model with float32 or float16 weights",
            )
        count = int(np.prod(spec["shape"], dtype=np.int64))
        dtype = np.dtype(_STORED[stored]).newbyteorder("<")
        end = offset + count * dtype.itemsize
        if end > len(content):
            break
        values = np.frombuffer(content, dtype, count, offset).reshape(spec["shape"])
        weights[spec["name"]] = values.astype(_STORED[spec["dtype"]])
        offset = end
    else:
        if offset == len(content):
            return weights
    raise ModelError(
        f"the weights are {len(content)} bytes, which is not what the graph declares",
        field="weightsManifest",
        remedy="take graph and weights of the same model",
    )
