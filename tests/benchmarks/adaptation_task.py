"""A task for the adaptation benchmark: cameras tell the answer by day, the LiDAR always does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tailwire.benchmarks.adaptation_data import BenchData
from tailwire.runtime.adaptation.samples import Samples
from tailwire.simulation.questions.baselines import Baselines
from tailwire.simulation.questions.items import QaItem
from tailwire.training.prepared_data import HeldOut, PreparedData

MODALITIES = {"cam_front": "camera", "cam_back": "camera", "lidar_top": "lidar"}
CAMERAS, LIDAR = ("cam_front", "cam_back"), ("lidar_top",)
WIDTH = 8
#: By number of the text; the second has more tokens.
TEXTS = ((11, 12, 13, 14), (201, 45, 7, 80, 9, 31, 5, 6, 77))
#: Tokens of yes, no, and of answers that are never right.
CHOICES = ((50, 60), (60, 50, 70))
SHORT = ("yes", "no")


def bench_data(moments: int = 96, **changes: Any) -> BenchData:
    """Half the moments by day; every third one is held out. Two questions about each."""
    rng = np.random.default_rng(3)
    conditions = ["day" if moment % 2 else "night" for moment in range(moments)]
    sign = rng.permutation(np.arange(moments) // 2 % 2 * 2 - 1)
    direction = {"camera": rng.normal(size=WIDTH), "lidar": rng.normal(size=WIDTH)}
    tokens: dict[str, np.ndarray] = {}
    for sensor, modality in MODALITIES.items():
        rows = rng.normal(0, 0.3, (moments, 4, WIDTH))
        seen = np.array([modality == "lidar" or one == "day" for one in conditions])
        rows += (2 * sign * seen)[:, None, None] * direction[modality]
        # Some moments have fewer tokens, with a gap in the middle.
        rows[::5, 1] = 0
        rows[::4, 3] = 0
        tokens[sensor] = rows.astype(np.float16)
    columns: dict[bool, list[tuple[int, ...]]] = {True: [], False: []}
    items: dict[bool, list[QaItem]] = {True: [], False: []}
    known: list[str] = []
    for moment in range(moments):
        learned = moment // 2 % 3 != 0
        for text in range(len(TEXTS)):
            answer = int(sign[moment] < 0)
            target = CHOICES[text].index(CHOICES[0][answer])
            columns[learned].append((moment, text, text, target, 0))
            split, words = "train" if learned else "val", f"question {text}"
            item = QaItem(str(moment), words, SHORT[answer], "exist", 0, split)
            items[learned].append(item)
            if not learned:
                known.append(conditions[moment])
    train, held_out = (_samples(columns[part]) for part in (True, False))
    guesses = Baselines.fit(items[True]).predict(items[False])
    prepared = PreparedData(
        tokens=tokens,
        matches={s: np.full(rows.shape[:2], -1, np.int16) for s, rows in tokens.items()},
        conditions=conditions,
        texts=TEXTS,
        mirrored=np.arange(len(TEXTS), dtype=np.int32),
        choices=CHOICES,
        groups=("exist",),
        train=train,
        held_out=held_out,
        known=HeldOut(items[False], np.arange(len(held_out)), known, guesses),
        origin={"language_model": "tiny"},
    )
    return BenchData(replace(prepared, **changes), MODALITIES)


def _samples(rows: list[tuple[int, ...]]) -> Samples:
    return Samples(*np.array(rows, np.int32).T.copy())
