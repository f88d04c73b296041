"""Point clouds of any LiDAR driver as float32 x y z intensity ring."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The codes of `sensor_msgs/PointField`.
_DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_FLOAT32 = 7
#: What drivers call them.
_ALIASES = {"intensity": ("intensity", "i", "reflectivity"), "ring": ("ring", "channel", "line")}


def cloud_points(message: Any) -> NDArray[np.float32]:
    """A `sensor_msgs/PointCloud2` without the points that are not finite.

    Fields may lie at any offset, in any order and of any number type, points may be padded, the
    cloud may be organised in rows and big endian. Without intensity it is 0, without ring the
    column is left out. A cloud that begins its points with these fields as float32, in this order
    and without gaps, is a view of the message as long as all its points are finite.

    Returns:
        float32 `[n, 4]` or `[n, 5]`: x y z intensity [ring], not to be written to. A cloud in the
        layout of nuScenes keeps its bits.

    Raises:
        ValueError: x, y or z is missing, sizes do not fit the data, or no point is finite.
    """
    fields = {field.name: field for field in message.fields}
    missing = [name for name in "xyz" if name not in fields]
    if missing:
        raise ValueError(f"the cloud has no field {', '.join(missing)}")
    table = _points(message)
    chosen = [fields[name] for name in "xyz"]
    intensity, ring = (_find(fields, name) for name in ("intensity", "ring"))
    wanted = [*chosen, intensity] if ring is None else [*chosen, intensity, ring]
    cloud = _view(message, table, wanted)
    if cloud is None:
        cloud = np.zeros((len(table), len(wanted)), np.float32)
        for column, field in enumerate(wanted):
            if field is not None:
                with np.errstate(over="ignore", invalid="ignore"):
                    cloud[:, column] = _column(table, field, bool(message.is_bigendian))
    if (finite := np.isfinite(cloud)).all():
        return cloud
    kept = finite.all(axis=1)
    if not kept.any():
        raise ValueError(f"none of the {len(cloud)} points is finite")
    return cloud[kept]


def _points(message: Any) -> NDArray[np.uint8]:
    """The bytes of the points, `[n, point_step]`."""
    data = np.frombuffer(message.data, dtype=np.uint8)
    height, width = int(message.height), int(message.width)
    point_step, row_step = int(message.point_step), int(message.row_step)
    if height * width == 0 or not point_step:
        raise ValueError(f"a cloud of {width} x {height} points of {point_step} bytes")
    if height == 1 or not row_step:
        # Drivers leave the row step of a single row at zero or at some other number.
        row_step = width * point_step
    row_bytes = width * point_step
    if row_step < row_bytes or len(data) < (height - 1) * row_step + row_bytes:
        raise ValueError(
            f"{len(data)} bytes hold no {width} x {height} points of {point_step} bytes "
            f"(row step {row_step})"
        )
    rows = np.lib.stride_tricks.as_strided(
        data, (height, row_bytes), (row_step, 1), writeable=False
    )
    return rows.reshape(-1, point_step)


def _find(fields: dict[str, Any], name: str) -> Any:
    return next((fields[alias] for alias in _ALIASES[name] if alias in fields), None)


def _column(table: NDArray[np.uint8], field: Any, big_endian: bool) -> NDArray[Any]:
    kind = _DATATYPES.get(int(field.datatype))
    if kind is None:
        raise ValueError(f"the field {field.name!r} has the unknown data type {field.datatype}")
    dtype = np.dtype((">" if big_endian else "<") + kind)
    offset = int(field.offset)
    if offset + dtype.itemsize > table.shape[1]:
        raise ValueError(f"the field {field.name!r} lies outside of a point")
    return np.ascontiguousarray(table[:, offset : offset + dtype.itemsize]).view(dtype)[:, 0]


def _view(message: Any, table: NDArray[np.uint8], fields: list[Any]) -> NDArray[np.float32] | None:
    """The points as they lie, None where they are laid out otherwise."""
    as_wanted = all(
        field is not None and field.datatype == _FLOAT32 and field.offset == 4 * place
        for place, field in enumerate(fields)
    )
    wide_enough = table.shape[1] % 4 == 0 and 4 * len(fields) <= table.shape[1]
    if message.is_bigendian or not as_wanted or not wide_enough or not table.flags.c_contiguous:
        return None
    points = table.view("<f4")[:, : len(fields)]
    # A payload may begin at any byte of a file.
    return points if points.flags.aligned else points.copy()
