"""The working folder of a training: its settings, checkpoint, record and curve.

A checkpoint is only taken up by the run that it belongs to: the settings lie beside it.
"""

from __future__ import annotations

import json
import pickle
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from ..runtime.adaptation.training_config import TrainingError
from ..runtime.files import open_atomic, write_atomic


class RunFolder:
    """Files of one training in a working folder.

    Attributes:
        checkpoint: state of the run.
        record: JSON of settings, versions and figures; written at the end.
        curve: PNG.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.checkpoint = folder / f"{name}-checkpoint.pt"
        self.record = folder / f"{name}.json"
        self.curve = folder / f"{name}.png"
        self._settings = folder / f"{name}-checkpoint.json"

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Keep the settings, or compare them with those of the checkpoint that is there.

        Args:
            settings: all that makes a run what it is; JSON can hold it.

        Raises:
            TrainingError: the checkpoint belongs to another run, or cannot be read.
            CacheError: the folder cannot be written.
        """
        text = json.dumps(settings, indent=1)
        if not self.checkpoint.is_file():
            write_atomic(self._settings, text + "\n")
            return
        read_checkpoint(self.checkpoint)
        if not self._settings.is_file():
            # From elsewhere: whether it fits is then found out by the trainer alone.
            return
        wanted = json.loads(text)
        try:
            found = json.loads(self._settings.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"the settings of the checkpoint cannot be read: {error}",
                field=str(self._settings),
                remedy="name another folder with --out",
            ) from error
        for key in sorted(wanted.keys() | found.keys()):
            if wanted.get(key) != found.get(key):
                raise TrainingError(
                    f"the checkpoint belongs to a run with other settings: {key} was "
                    f"{found.get(key)!r} and is {wanted.get(key)!r}",
                    field=str(self.checkpoint),
                    remedy="use the same settings, or name another folder with --out",
                )

    def save_weights(self, weights: Mapping[str, NDArray[np.floating]], name: str = "") -> Path:
        """Write `<name>.safetensors`, float32; the name is that of the run where none is given."""
        path = self.folder / f"{name or self.name}.safetensors"
        arrays = {key: np.ascontiguousarray(array, np.float32) for key, array in weights.items()}
        with open_atomic(path) as file:
            file.write(save(arrays))
        return path

    def save_record(self, content: Mapping[str, Any]) -> None:
        """Write the record, with versions and the date."""
        whole = {**content, "versions": versions(), "finished": f"{datetime.now(timezone.utc):%F}"}
        write_atomic(self.record, json.dumps(whole, indent=1) + "\n")


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Tensors and plain values of a checkpoint; nothing in it is run.

    Raises:
        TrainingError: it is broken or of another kind.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"the checkpoint cannot be read ({type(error).__name__})",
            field=str(path),
            remedy="remove it and train again, or name another folder with --out",
        ) from error
    if not isinstance(state, dict) or not {"config", "step", "optimizer"} <= state.keys():
        raise TrainingError(
            "the file is no checkpoint of a training",
            field=str(path),
            remedy="remove it, or name another folder with --out",
        )
    return state


def state_arrays(state: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.float32]]:
    """A state dict as float32 arrays, without the counters of batch norms."""
    return {
        name: value.detach().float().contiguous().numpy()
        for name, value in state.items()
        if not name.endswith(".num_batches_tracked")
    }


def versions() -> dict[str, str]:
    """What a training depends on, for its record."""
    import onnxruntime

    from .. import __version__

    return {
        "tailwire": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
