"""Low-rank changes of a language model's projections: what a pack may teach the text side.

`x W` becomes `x W + (x A) B` in any of the seven projections of any block (LoRA, 2106.09685). The
scale `alpha / r` is part of B. Nothing here runs a model: changes are read, checked, weighted and
joined; `export.folded_checkpoint` puts them into weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .errors import PackError
from .model_config import LanguageModelConfig

Float = NDArray[np.float32]
Projection = Literal["query", "key", "value", "output", "gate", "up", "down"]
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)

#: Block of the model and projection.
Place = tuple[int, Projection]
#: A `[inputs, rank]` and B `[rank, outputs]`.
Factors = tuple[Float, Float]


def projection_shape(config: LanguageModelConfig, projection: Projection) -> tuple[int, int]:
    """Inputs and outputs of a projection.

    Raises:
        PackError: the model has no such projection (`gate` of a network without gates).
    """
    hidden, heads = config.hidden_size, config.num_heads * config.head_dim
    kv, ffn = config.num_kv_heads * config.head_dim, config.ffn_size
    if projection == "gate" and config.activation != "silu_gate":
        raise PackError(
            f"{config.architecture} has no gate in its feed-forward network",
            field="text: gate",
            remedy="leave the gate out; the first layer is called up",
        )
    shapes: dict[Projection, tuple[int, int]] = {
        "query": (hidden, heads),
        "key": (hidden, kv),
        "value": (hidden, kv),
        "output": (heads, hidden),
        "gate": (hidden, ffn),
        "up": (hidden, ffn),
        "down": (ffn, hidden),
    }
    return shapes[projection]


@dataclass(frozen=True, eq=False)
class LowRankChange:
    """Changes of some projections.

    Attributes:
        factors: by place, float32.
    """

    factors: Mapping[Place, Factors]

    @property
    def places(self) -> list[Place]:
        """Where it changes anything, by block and then in the order of `PROJECTIONS`."""
        return sorted(self.factors, key=lambda at: (at[0], PROJECTIONS.index(at[1])))

    @property
    def nbytes(self) -> int:
        """Bytes of all factors."""
        return sum(a.nbytes + b.nbytes for a, b in self.factors.values())

    def dense(self, place: Place) -> Float:
        """`A B`, float32 `[inputs, outputs]`."""
        a, b = self.factors[place]
        return a @ b

    def arrays(self) -> dict[str, Float]:
        """As a file holds it: `<block>.<projection>.a` and `.b`."""
        found: dict[str, Float] = {}
        for block, projection in self.places:
            a, b = self.factors[block, projection]
            found[f"{block}.{projection}.a"] = np.ascontiguousarray(a)
            found[f"{block}.{projection}.b"] = np.ascontiguousarray(b)
        return found

    def check_fits(self, config: LanguageModelConfig, field: str) -> None:
        """Check blocks, projections and shapes against a model.

        Args:
            config: of the model.
            field: named in errors.

        Raises:
            PackError: naming the first array that does not fit.
        """
        for block, projection in self.places:
            name = f"{field}: {block}.{projection}"
            if block >= config.num_blocks:
                raise PackError(
                    f"block {block} where the model has 0 to {config.num_blocks - 1}",
                    field=name,
                    remedy="use the pack with the language model that it was made for",
                )
            a, b = self.factors[block, projection]
            wanted = projection_shape(config, projection)
            if (a.shape[0], b.shape[1]) != wanted:
                raise PackError(
                    f"a change of {a.shape[0]} inputs and {b.shape[1]} outputs, where the model "
                    f"has {wanted[0]} and {wanted[1]}",
                    field=name,
                    remedy="use the pack with the language model that it was made for",
                )


def join(parts: Sequence[tuple[float, LowRankChange]]) -> LowRankChange:
    """The weighted sum of changes, exactly: factors side by side, ranks add up.

    `sum_i w_i A_i B_i = [A_1 ... A_n] [w_1 B_1; ...; w_n B_n]`. A part of weight 0 is left out, so
    that what is left is bit for bit that of the others.
    """
    places = dict.fromkeys(place for weight, part in parts if weight for place in part.places)
    joined: dict[Place, Factors] = {}
    for place in places:
        found = [(weight, *part.factors[place]) for weight, part in parts if place in part.factors]
        found = [(weight, a, b) for weight, a, b in found if weight]
        a = np.concatenate([a for _, a, _ in found], axis=1)
        b = np.concatenate([np.float32(weight) * b for weight, _, b in found])
        joined[place] = (a, b)
    return LowRankChange(joined)


def read_change(path: Path) -> LowRankChange:
    """Read a safetensors file of changes, as `LowRankChange.arrays` names them.

    Raises:
        PackError: it cannot be read, a name or a shape is wrong, a factor is missing, or a value
            is not finite.
    """
    return change_of(dict(_arrays(path)), path)


def change_of(arrays: Mapping[str, Float], path: Path) -> LowRankChange:
    """The change whose factors have these names.

    Args:
        arrays: as `LowRankChange.arrays` names them.
        path: where they come from; named in errors.

    Raises:
        PackError: a name or a shape is wrong, or a factor is missing.
    """
    factors: dict[Place, Factors] = {}
    for name in arrays:
        place, side = _place(name, path)
        other = f"{place[0]}.{place[1]}.{'b' if side == 'a' else 'a'}"
        if other not in arrays:
            raise PackError(
                f"'{other}' is missing beside it", field=f"{path}: {name}", remedy=_AGAIN
            )
        if side == "b":
            continue
        a, b = arrays[name], arrays[other]
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
            raise PackError(
                f"factors of {a.shape} and {b.shape}, where [inputs, rank] and [rank, outputs] "
                "are needed",
                field=f"{path}: {name}",
                remedy=_AGAIN,
            )
        factors[place] = (a, b)
    return LowRankChange(factors)


_AGAIN = "make the pack again"


def _arrays(path: Path) -> Iterator[tuple[str, Float]]:
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                dtype = file.get_slice(name).get_dtype()
                if dtype not in ("F32", "F16"):
                    raise PackError(
                        f"dtype {dtype} where float32 or float16 is needed",
                        field=f"{path}: {name}",
                        remedy="convert the weights",
                    )
                array = file.get_tensor(name).astype(np.float32, copy=False)
                if not np.isfinite(array).all():
                    raise PackError(
                        "the weights are not finite",
                        field=f"{path}: {name}",
                        remedy="training diverged; use an earlier checkpoint",
                    )
                yield name, array
    except (SafetensorError, OSError) as error:
        raise PackError(
            f"the weights cannot be read: {error}", field=str(path), remedy="copy the pack again"
        ) from error


def _place(name: str, path: Path) -> tuple[Place, str]:
    block, _, rest = name.partition(".")
    projection, _, side = rest.partition(".")
    for known in PROJECTIONS:
        if known == projection and block.isdecimal() and side in ("a", "b"):
            return (int(block), known), side
    raise PackError(
        "this is no name of a change",
        field=f"{path}: {name}",
        remedy=f"names are <block>.<projection>.<a|b> with {', '.join(PROJECTIONS)}",
    )
