"""From dense maps to object tokens, in torch: the reference of the exported graphs.

Peaks of the heat (3x3 neighbourhoods) become objects in the ego frame; the strongest are kept, and
what is weaker than `MIN_SCORE` is a row of zeros, which is no token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..kernels.object_tokens import (
    AZIMUTH_HARMONICS,
    HEIGHT_SCALE_M,
    POSITION_SCALE_M,
    SECTOR_MIDDLES_DEG,
    TOKEN_WIDTH,
    WAVELENGTHS_M,
    WITH_STATUS,
)
from ..runtime.detectors import (
    HALF_SECTOR_COSINE,
    LOG_DEPTH_RANGE,
    LOG_SIZE_RANGE,
    MAX_DEPTH_M,
    MIN_SCORE,
    REFERENCE_FOCAL_PX,
    TINY,
)
from .detectors import DenseMaps


def bev_tokens(maps: DenseMaps, tokens: int, range_m: float, cell_m: float) -> Tensor:
    """Tokens `[batch, tokens, 64]` of the LiDAR detector's maps.

    Args:
        maps: of the detector.
        tokens: rows.
        range_m: of the grid, see `kernels.bev_grid`.
        cell_m: side of a cell *of the maps*.
    """
    score, row, column, taken = _peaks(maps, tokens)
    offset = taken["offset"]
    x = (row + offset[..., 0]) * cell_m - range_m
    y = (column + offset[..., 1]) * cell_m - range_m
    z = taken["z"][..., 0] * HEIGHT_SCALE_M
    heading = _unit(taken["heading"])
    velocity = taken["velocity"]
    return _rows(taken, score, torch.stack([x, y, z], -1), heading, velocity)


def image_tokens(maps: DenseMaps, geometry: Tensor, tokens: int, stride: int) -> Tensor:
    """Tokens `[batch, tokens, 64]` of the camera detector's maps.

    Args:
        maps: of the detector.
        geometry: float32 `[batch, 16]`: fx, fy, cx, cy in pixels of the encoder's picture, then
            the upper three rows of ego_from_camera (camera axes: x right, y down, z forward).
        tokens: rows.
        stride: pixels per cell.
    """
    score, row, column, taken = _peaks(maps, tokens)
    fx, fy, cx, cy = (geometry[:, i : i + 1] for i in range(4))
    ego_from_camera = geometry[:, 4:].unflatten(-1, (3, 4))
    rotation, translation = ego_from_camera[..., :3], ego_from_camera[..., 3]
    offset = taken["offset"]
    u, v = (column + offset[..., 0]) * stride, (row + offset[..., 1]) * stride
    depth = torch.exp(taken["depth"][..., 0].clamp(*LOG_DEPTH_RANGE)) * fx / REFERENCE_FOCAL_PX
    depth = depth.clamp(max=MAX_DEPTH_M)
    right, down = (u - cx) / fx, (v - cy) / fy
    center = torch.stack([right * depth, down * depth, depth], -1)
    center = center @ rotation.mT + translation[:, None]
    # The heading is learned relative to the ray: a car looks the same wherever it is in view.
    ray = torch.sqrt(right * right + 1.0)
    sine, cosine = _unit(taken["heading"]).unbind(-1)
    ray_sine, ray_cosine = right / ray, 1.0 / ray
    along = torch.stack(
        [
            sine * ray_cosine + cosine * ray_sine,
            torch.zeros_like(sine),
            cosine * ray_cosine - sine * ray_sine,
        ],
        -1,
    )
    turned = along @ rotation.mT
    heading = _unit(torch.stack([turned[..., 1], turned[..., 0]], -1))
    return _rows(taken, score, center, heading, None)


def _peaks(maps: DenseMaps, tokens: int) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Score, row and column of the strongest peaks, and all maps there, `[batch, tokens, .]`."""
    heat = torch.sigmoid(maps.heat)
    strongest = heat.max(dim=1, keepdim=True).values
    around = functional.max_pool2d(strongest, 3, 1, 1)
    peaks = strongest * (strongest >= around)
    columns = peaks.shape[-1]
    score, place = peaks.flatten(1).topk(tokens, dim=1)

    def at(values: Tensor) -> Tensor:
        flat = values.flatten(2).mT
        return flat.gather(1, place[..., None].expand(-1, -1, flat.shape[-1]))

    taken = {name: at(values) for name, values in maps.of.items()}
    # As a list of objects has it: what is known for certain is easier to reason about, and the
    # score has its say in whether there is a token at all.
    classes = _likeliest(at(heat))
    taken["classes"] = classes
    has_status = classes[..., :WITH_STATUS].sum(-1, keepdim=True)
    taken["statuses"] = _likeliest(at(maps.statuses)) * has_status
    return score, (place // columns).float(), (place % columns).float(), taken


def _likeliest(values: Tensor) -> Tensor:
    return (values >= values.max(dim=-1, keepdim=True).values).float()


def _unit(pair: Tensor) -> Tensor:
    return pair / torch.sqrt((pair * pair).sum(-1, keepdim=True) + TINY)


def _rows(
    taken: dict[str, Tensor],
    score: Tensor,
    center: Tensor,
    heading: Tensor,
    velocity: Tensor | None,
) -> Tensor:
    """The rows of `kernels.object_tokens.rows_of`; rows that are too weak are zeroed."""
    x, y, z = center.unbind(-1)
    reach = torch.sqrt(x * x + y * y + TINY)
    # Only what a graph of standard operators has: no arctangent of two arguments.
    cosine, sine = x / reach, y / reach
    known = torch.full_like(x, 0.0 if velocity is None else 1.0)
    speed = torch.zeros_like(center[..., :2]) if velocity is None else velocity
    columns = [
        taken["classes"],
        torch.ones_like(score[..., None]),
        taken["statuses"],
        torch.stack(
            [
                x / POSITION_SCALE_M,
                y / POSITION_SCALE_M,
                z / HEIGHT_SCALE_M,
                reach / POSITION_SCALE_M,
            ],
            -1,
        ),
    ]
    turned_sine, turned_cosine = sine, cosine
    for _ in AZIMUTH_HARMONICS:
        columns.append(torch.stack([turned_sine, turned_cosine], -1))
        turned_sine, turned_cosine = (
            turned_sine * cosine + turned_cosine * sine,
            turned_cosine * cosine - turned_sine * sine,
        )
    for wavelength in WAVELENGTHS_M:
        turn = 2 * math.pi / wavelength
        columns.append(
            torch.stack(
                [
                    torch.sin(turn * x),
                    torch.cos(turn * x),
                    torch.sin(turn * y),
                    torch.cos(turn * y),
                ],
                -1,
            )
        )
    columns.append(taken["size"].clamp(*LOG_SIZE_RANGE))
    columns.append(heading)
    columns.append(speed)
    columns.append(
        torch.stack([torch.sqrt((speed * speed).sum(-1)), known, torch.ones_like(x)], -1)
    )
    sectors = [
        (cosine * math.cos(middle) + sine * math.sin(middle) > HALF_SECTOR_COSINE).float()
        for middle in map(math.radians, SECTOR_MIDDLES_DEG)
    ]
    columns.append(torch.stack(sectors, -1))
    rows = torch.cat(columns, -1)
    rows = functional.pad(rows, (0, TOKEN_WIDTH - rows.shape[-1]))
    # Chosen, not multiplied: where nothing is, values need not even be finite.
    return torch.where((score > MIN_SCORE)[..., None], rows, 0.0)
