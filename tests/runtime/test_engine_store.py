"""The engine store under kills, races, full disks, read-only caches and tampering.

Builders that die are real processes; full and read-only disks are real mounts where the kernel
allows them.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from tailwire.runtime import engine_store
from tailwire.runtime.engine_key import EngineKey
from tailwire.runtime.engine_store import EngineStore
from tailwire.runtime.errors import CacheError, EngineError

KEY = EngineKey("ab" * 32, "Tail 10/v3", "int8", "onnxruntime 1.32.0", "x86_64, some CPU")
FILES = {"graph.onnx": b"graph", "graph.bin": b"\x00" * 5000, "more/vocabulary.txt": b"a\nb\n"}

#: What a child process needs to build the engine of these tests; `pause` is up to the test.
CHILD = """
import os, sys, time
from pathlib import Path
from tailwire.runtime import engine_store
from tailwire.runtime.engine_key import EngineKey
from tailwire.runtime.engine_store import EngineStore
KEY = EngineKey("ab" * 32, "Tail 10/v3", "int8", "onnxruntime 1.32.0", "x86_64, some CPU")
store = EngineStore(Path(sys.argv[1]))
"""


def build(folder: Path) -> None:
    """Write a small engine."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def no_build(_: Path) -> None:
    """The build of callers for whom the engine must be there."""
    pytest.fail("built an engine that was there")


def contents(entry: Path) -> dict[str, bytes]:
    return {name: (entry / name).read_bytes() for name in FILES}


def visible(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name != ".locks")


def child(script: str, root: Path) -> list[str]:
    return [sys.executable, "-c", CHILD + textwrap.dedent(script), str(root)]


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


class TestGet:
    def test_builds_once(self, store: EngineStore) -> None:
        heard: list[str] = []
        entry = store.get(KEY, build, progress=heard.append)
        assert contents(entry) == FILES
        assert heard == [f"building {entry.name}"]
        assert store.get(KEY, no_build) == entry
        assert visible(store.root) == [entry.name]

    def test_manifest_says_what_was_built(self, store: EngineStore) -> None:
        manifest = json.loads((store.get(KEY, build) / "manifest.json").read_text())
        assert manifest["key"]["library"] == "onnxruntime 1.32.0"
        assert {n: r["size_bytes"] for n, r in manifest["files"].items()} == {
            name: len(content) for name, content in FILES.items()
        }
        assert manifest["tailwire_version"] and manifest["created"].endswith("+00:00")

    @pytest.mark.parametrize("field", list(EngineKey.__dataclass_fields__))
    def test_every_part_of_the_key_makes_another_engine(
        self, store: EngineStore, field: str
    ) -> None:
        other = replace(KEY, **{field: "other"})
        assert store.get(KEY, build) != store.get(other, build)
        assert len(store.entries()) == 2

    @pytest.mark.parametrize("damage", ["no manifest", "empty manifest", "short file", "no file"])
    def test_a_half_written_engine_is_built_anew(self, store: EngineStore, damage: str) -> None:
        entry = store.get(KEY, build)
        if damage == "no manifest":
            (entry / "manifest.json").unlink()
        elif damage == "empty manifest":
            (entry / "manifest.json").write_bytes(b"")
        elif damage == "short file":
            (entry / "graph.bin").write_bytes(b"\x00" * 4999)
        else:
            (entry / "graph.onnx").unlink()
        assert store.entries() == []
        assert contents(store.get(KEY, build)) == FILES
        assert visible(store.root) == [entry.name]

    def test_an_engine_of_another_key_is_not_used(self, store: EngineStore) -> None:
        entry = store.get(KEY, build)
        other = store.get(replace(KEY, machine="another"), build)
        (entry / "manifest.json").write_bytes((other / "manifest.json").read_bytes())
        assert store.get(KEY, build) == entry
        assert json.loads((entry / "manifest.json").read_text())["key"]["machine"] == KEY.machine

    def test_a_manifest_cannot_point_out_of_its_folder(self, store: EngineStore) -> None:
        entry = store.get(KEY, build)
        (store.root / "outside").write_bytes(b"graph")
        text = (entry / "manifest.json").read_text()
        (entry / "manifest.json").write_text(text.replace('"graph.onnx"', '"../outside"'))
        assert store.entries() == []

    @pytest.mark.parametrize(
        "error", [ValueError("shape"), KeyboardInterrupt(), FileNotFoundError(2, "gone", "/src")]
    )
    def test_an_error_of_the_build_passes_unchanged(
        self, store: EngineStore, error: BaseException
    ) -> None:
        def fails(folder: Path) -> None:
            build(folder)
            raise error

        with pytest.raises(type(error)) as caught:
            store.get(KEY, fails)
        assert caught.value is error
        assert visible(store.root) == []
        assert contents(store.get(KEY, build)) == FILES

    @pytest.mark.parametrize("content", ["nothing", "a link", "a manifest"])
    def test_a_build_must_leave_plain_files(self, store: EngineStore, content: str) -> None:
        def odd(folder: Path) -> None:
            if content == "a link":
                (folder / "graph.onnx").symlink_to("/etc/hostname")
            elif content == "a manifest":
                (folder / "manifest.json").write_text("{}")

        with pytest.raises(EngineError):
            store.get(KEY, odd)
        assert visible(store.root) == []


class TestProcesses:
    @pytest.mark.parametrize(
        "victim",
        [
            "store.get(KEY, lambda p: ((p / 'graph.onnx').write_bytes(b'gr'), os._exit(9)))",
            "engine_store.write_atomic = lambda *_: os._exit(9); store.get(KEY, BUILD)",
            "store.get(KEY, lambda p: (BUILD(p), setattr(Path, 'rename', lambda *_: os._exit(9))))",
        ],
        ids=["in the build", "before the manifest", "before the rename"],
    )
    def test_a_builder_that_dies_leaves_nothing_that_is_used(
        self, store: EngineStore, victim: str
    ) -> None:
        script = f"BUILD = lambda p: (p / 'graph.onnx').write_bytes(b'graph')\n{victim}"
        assert subprocess.run(child(script, store.root), check=False).returncode == 9
        (partial,) = visible(store.root)
        assert partial.startswith(".partial-")
        assert store.entries() == []
        entry = store.get(KEY, build)
        assert contents(entry) == FILES
        assert visible(store.root) == [entry.name]

    def test_a_living_builder_is_waited_for_and_its_work_left_alone(
        self, store: EngineStore
    ) -> None:
        builder = """
        def build(folder):
            (folder / "graph.onnx").write_bytes(b"built once")
            print("building", flush=True)
            sys.stdin.readline()
        print(store.get(KEY, build).name, flush=True)
        """
        waiter = """
        def build(folder):
            raise SystemExit("built twice")
        print(store.get(KEY, build, progress=lambda line: print(line, flush=True)).name)
        """
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(child(builder, store.root), **pipes) as first:
            assert first.stdout is not None
            assert first.stdout.readline() == "building\n"
            with subprocess.Popen(child(waiter, store.root), **pipes) as second:
                assert second.stdout is not None
                assert second.stdout.readline().startswith("waiting for another process")
                store.prune(0)
                store.get(replace(KEY, recipe="other"), build)
                assert len([n for n in visible(store.root) if n.startswith(".partial-")]) == 1
                said, _ = first.communicate("go\n")
                heard, _ = second.communicate()
        assert said == heard == f"{KEY.folder_name}\n"
        assert (store.root / KEY.folder_name / "graph.onnx").read_bytes() == b"built once"

    def test_leftovers_of_a_killed_builder_of_another_engine(self, store: EngineStore) -> None:
        script = """
        def build(folder):
            (folder / "graph.onnx").write_bytes(b"graph")
            print("building", flush=True)
            sys.stdin.readline()
        store.get(KEY, build)
        """
        with subprocess.Popen(
            child(script, store.root), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as builder:
            assert builder.stdout is not None
            builder.stdout.readline()
            builder.kill()
        assert len(visible(store.root)) == 1
        entry = store.get(replace(KEY, recipe="other"), build)
        assert visible(store.root) == [entry.name]


class TestDisk:
    def test_a_real_full_disk_and_a_real_read_only_one(
        self, tmp_path: Path, private_mount: list[str]
    ) -> None:
        script = """
        import subprocess
        from dataclasses import replace
        from tailwire.runtime.errors import CacheError
        disk = store.root.parent
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
        small = lambda folder: [(folder / "graph.onnx").write_bytes(b"graph")]
        large = lambda folder: [(folder / f"{i}").write_bytes(b"x" * 100_000) for i in range(20)]
        kept = store.get(KEY, small)
        def refused(words, **given):
            try:
                store.get(replace(KEY, recipe="large"), large, **given)
            except CacheError as exc:
                assert all(word in str(exc) for word in words), exc
            else:
                raise AssertionError("not refused")
            assert store.get(KEY, None) == kept and store.verify(kept)
            assert {p.name for p in store.root.iterdir()} == {".locks", kept.name}
        where = [str(store.root), "TAILWIRE_CACHE"]
        refused([*where, "full (1.0 MB free, more than 1.0 MB needed)"])
        refused([*where, "full (1.0 MB free, about 2.0 MB needed)"], expected_bytes=2_000_000)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        refused([*where, "Read-only file system"])
        """
        subprocess.run([*private_mount, *child(script, tmp_path / "engines")], check=True)

    @pytest.mark.parametrize("where", ["build", "manifest"])
    def test_a_full_disk(
        self, store: EngineStore, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        kept = store.get(replace(KEY, recipe="kept"), build)

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def build_until_full(folder: Path) -> None:
            build(folder)
            full()

        if where == "manifest":
            monkeypatch.setattr(engine_store, "sha256_of", full)
        with pytest.raises(
            CacheError, match=r"full \(.* free, more than 5.0 kB needed\)"
        ) as caught:
            store.get(KEY, build if where == "manifest" else build_until_full)
        assert caught.value.field == str(store.root)
        assert visible(store.root) == [kept.name]

    def test_a_full_disk_elsewhere_is_not_blamed_on_the_cache(self, store: EngineStore) -> None:
        def writes_elsewhere(_: Path) -> None:
            raise OSError(errno.ENOSPC, "full", "/dev/full")

        with pytest.raises(OSError, match="/dev/full"):
            store.get(KEY, writes_elsewhere)

    def test_too_little_space_is_said_before_the_work(self, store: EngineStore) -> None:
        with pytest.raises(CacheError, match=r"about 1000000000.0 GB needed"):
            store.get(KEY, no_build, expected_bytes=10**18)

    def test_a_cache_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        store = EngineStore(tmp_path / "file" / "engines")
        assert store.entries() == [] and store.size_bytes() == 0 and store.prune(0) == []
        with pytest.raises(CacheError, match=f"{store.root}.*TAILWIRE_CACHE"):
            store.get(KEY, no_build)

    def test_an_engine_in_a_read_only_cache_is_used(
        self, store: EngineStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entry = store.get(KEY, build)

        def read_only(path: object, *_: object, **__: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        for owner, call in ((os, "utime"), (os, "fsync"), (Path, "mkdir"), (Path, "rename")):
            monkeypatch.setattr(owner, call, read_only)
        assert store.get(KEY, no_build) == entry
        assert store.verify(entry)
        (entry / "graph.onnx").write_bytes(b"grapf")
        with pytest.raises(CacheError, match="TAILWIRE_CACHE"):
            store.verify(entry)


class TestVerify:
    def test_an_intact_engine_stays(self, store: EngineStore) -> None:
        entry = store.get(KEY, build)
        assert store.verify(entry)
        assert store.get(KEY, no_build) == entry

    def test_changed_bytes_are_found_and_built_anew(self, store: EngineStore) -> None:
        entry = store.get(KEY, build)
        (entry / "graph.onnx").write_bytes(b"grapf")
        assert store.get(KEY, no_build) == entry  # the quick check reads sizes only
        assert not store.verify(entry)
        assert visible(store.root) == []
        assert contents(store.get(KEY, build)) == FILES

    def test_a_folder_of_another_store(self, store: EngineStore, tmp_path: Path) -> None:
        entry = store.get(KEY, build)
        with pytest.raises(CacheError, match="not in the store"):
            EngineStore(tmp_path / "other").verify(entry)
        assert entry.is_dir()


class TestPrune:
    @pytest.fixture
    def three(self, store: EngineStore) -> list[Path]:
        paths = [store.get(replace(KEY, recipe=name), build) for name in "abc"]
        for age, path in enumerate(reversed(paths)):
            os.utime(path / "manifest.json", ns=(0, 10**18 - age))
        return paths

    def test_least_recently_used_goes_first(self, store: EngineStore, three: list[Path]) -> None:
        assert [engine.path for engine in store.entries()] == three
        store.get(replace(KEY, recipe="a"), no_build)
        size = store.size_bytes() // 3
        assert store.prune(2 * size + 10) == [three[1]]
        assert {engine.path for engine in store.entries()} == {three[0], three[2]}
        assert store.size_bytes() <= 2 * size + 10

    def test_what_fits_stays(self, store: EngineStore, three: list[Path]) -> None:
        assert store.prune(store.size_bytes()) == []
        assert len(store.entries()) == len(three)

    def test_everything_can_go(self, store: EngineStore, three: list[Path]) -> None:
        (three[0] / "graph.bin").unlink()
        assert store.prune(0) == three[1:]
        assert visible(store.root) == [] and store.size_bytes() == 0

    def test_what_is_not_ours_stays(self, store: EngineStore, three: list[Path]) -> None:
        (store.root / "photos").mkdir()
        (store.root / "photos" / "cat.jpg").write_bytes(b"cat")
        (store.root / ".partial-notes").write_bytes(b"mine")
        store.prune(0)
        assert visible(store.root) == [".partial-notes", "photos"]
