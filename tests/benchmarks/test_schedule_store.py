"""What a scheduling benchmark keeps is there again, and never mixed up with another one's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tailwire.benchmarks.schedule_store import ScheduleStore
from tailwire.runtime.answering import Reply
from tailwire.runtime.errors import CacheError, ConfigError

SETTINGS = {"hz": 4.0, "weights": {"camera": "ab"}}


def test_what_was_kept_is_there_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    reply = Reply("traffic cone", 0.25, 1, 0, 7)
    store = ScheduleStore(tmp_path / "new", SETTINGS)
    assert store.tokens("a") is None
    assert store.reply("a") is None
    assert store.context("a") is None
    store.keep_tokens("a", tokens)
    store.keep_reply("a", reply)
    store.keep_context("a", "fog", ["lidar_top"])
    store.close()
    again = ScheduleStore(tmp_path / "new", SETTINGS)
    found = again.tokens("a")
    assert found is not None
    np.testing.assert_array_equal(found, tokens)
    assert again.reply("a") == reply
    assert again.context("a") == ("fog", frozenset(["lidar_top"]))
    again.close()


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    ScheduleStore(tmp_path, SETTINGS).close()
    with pytest.raises(ConfigError, match=r"weights was \{'camera': 'ab'\} and is"):
        ScheduleStore(tmp_path, {**SETTINGS, "weights": {"camera": "cd"}})
    with pytest.raises(ConfigError, match="model was None"):
        ScheduleStore(tmp_path, {**SETTINGS, "model": "x"})


def test_a_file_that_is_no_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "schedule-world.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(CacheError, match="cannot be used"):
        ScheduleStore(tmp_path, SETTINGS)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(CacheError):
        ScheduleStore(blocked / "below", SETTINGS)
