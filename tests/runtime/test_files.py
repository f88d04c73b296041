"""Atomic writes, hashes, the cache folder, paths from manifests, and locks.

Full disks and read-only mounts are real where the kernel lets a test mount a small tmpfs.
"""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from tailwire.runtime import files
from tailwire.runtime.errors import CacheError, ConfigError, PackError


def raising(code: int):
    """A stand-in for a system call that fails."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


class TestWriteAtomic:
    @pytest.mark.parametrize("data", [b"\x00\xff", "grüße\n", b"", ""])
    def test_content_is_what_was_given(self, tmp_path: Path, data: bytes | str) -> None:
        path = tmp_path / "new" / "deep" / "file"
        files.write_atomic(path, data)
        assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
        assert [p.name for p in path.parent.iterdir()] == ["file"]

    def test_permissions_follow_the_umask(self, tmp_path: Path) -> None:
        files.write_atomic(tmp_path / "a", b"1")
        (tmp_path / "b").write_bytes(b"1")
        assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
    def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        path = tmp_path / "file"
        files.write_atomic(path, "old")
        monkeypatch.setattr(os, "fsync", raising(code))
        with pytest.raises(CacheError) as caught:
            files.write_atomic(path, "new")
        assert caught.value.field == str(path)
        assert "TAILWIRE_CACHE" in caught.value.remedy
        assert ("disk is full" in caught.value.problem) == (code != errno.EIO)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_an_error_of_the_block_passes_and_leaves_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        files.write_atomic(path, "old")
        with pytest.raises(KeyboardInterrupt), files.open_atomic(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for path in (tmp_path / "file" / "sub", tmp_path / "file" / "sub" / "deeper"):
            with pytest.raises(CacheError, match=r"a file lies where a folder .*TAILWIRE"):
                files.write_atomic(path, "x")

    def test_file_systems_that_cannot_sync_folders_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "fsync", raising(errno.EINVAL))
        files.sync_folder(tmp_path)

    def test_full_and_read_only_mounts(self, tmp_path: Path, private_mount: list[str]) -> None:
        script = """
        import subprocess, sys
        from pathlib import Path
        from tailwire.runtime.errors import CacheError
        from tailwire.runtime.files import write_atomic
        disk = Path(sys.argv[1])
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
        write_atomic(disk / "kept", "kept")
        def refused(words, data):
            try:
                write_atomic(disk / "kept", data)
            except CacheError as exc:
                assert words in exc.problem, exc
            else:
                raise AssertionError("not refused")
            assert [p.name for p in disk.iterdir()] == ["kept"]
            assert (disk / "kept").read_text() == "kept"
        refused("the disk is full (61.4 kB free", b"x" * 100_000)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        refused("Read-only file system", b"x")
        """
        command = [*private_mount, sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
        subprocess.run(command, check=True)


class TestSha256:
    def test_hash_of_several_chunks(self, tmp_path: Path) -> None:
        content = os.urandom((1 << 20) + 17)
        (tmp_path / "f").write_bytes(content)
        assert files.sha256_of(tmp_path / "f") == hashlib.sha256(content).hexdigest()

    def test_a_recorded_hash_is_reused_until_the_file_changes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[Path] = []
        real = files.sha256_of
        monkeypatch.setattr(files, "sha256_of", lambda path: read.append(path) or real(path))
        path, record = tmp_path / "f", tmp_path / "records" / "f.json"
        path.write_bytes(b"one")
        first = files.recorded_sha256(path, record)
        assert files.recorded_sha256(path, record) == first == hashlib.sha256(b"one").hexdigest()
        assert len(read) == 1
        path.write_bytes(b"two")
        os.utime(path, ns=(0, 12345))
        assert files.recorded_sha256(path, record) == hashlib.sha256(b"two").hexdigest()
        assert files.recorded_sha256(path, record, fresh=True) and len(read) == 3

    @pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b"null"])
    def test_a_broken_record_is_no_record(self, tmp_path: Path, content: bytes) -> None:
        path, record = tmp_path / "f", tmp_path / "f.json"
        path.write_bytes(b"one")
        record.write_bytes(content)
        assert files.recorded_sha256(path, record) == hashlib.sha256(b"one").hexdigest()

    def test_a_record_that_cannot_be_written_is_done_without(self, tmp_path: Path) -> None:
        path = tmp_path / "f"
        path.write_bytes(b"one")
        assert files.recorded_sha256(path, path / "record") == hashlib.sha256(b"one").hexdigest()


class TestCacheDir:
    @pytest.fixture(autouse=True)
    def _clean(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TAILWIRE_CACHE", raising=False)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", "/home/robot")

    def test_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert files.cache_dir() == Path("/home/robot/.cache/tailwire")
        monkeypatch.setenv("XDG_CACHE_HOME", "/var/xdg")
        assert files.cache_dir() == Path("/var/xdg/tailwire")
        monkeypatch.setenv("TAILWIRE_CACHE", "~/own")
        assert files.cache_dir() == Path("/home/robot/own")

    def test_relative_paths(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        assert files.cache_dir() == Path("/home/robot/.cache/tailwire")
        monkeypatch.setenv("TAILWIRE_CACHE", "relative")
        assert files.cache_dir() == Path.cwd() / "relative"

    def test_no_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TAILWIRE_CACHE", "~nobody-has-this-name/cache")
        with pytest.raises(CacheError, match="no home folder"):
            files.cache_dir()


class TestInside:
    @pytest.mark.parametrize("name", ["a", "a/b.bin", "./a", "a..b", "..a"])
    def test_names_below(self, tmp_path: Path, name: str) -> None:
        assert files.inside(tmp_path, name) == tmp_path / name

    @pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/../../b", "/etc/passwd", "a\0b"])
    def test_names_that_leave(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(PackError):
            files.inside(tmp_path, name, error=PackError)

    def test_links(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        (folder / "real").mkdir(parents=True)
        (folder / "within").symlink_to("real")
        (folder / "out").symlink_to(tmp_path)
        (folder / "loop").symlink_to("loop")
        assert files.inside(folder, "within/x") == folder / "within" / "x"
        with pytest.raises(ConfigError, match="symbolic link leads out"):
            files.inside(folder, "out/x")

    def test_the_folder_itself_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        assert files.inside(tmp_path / "link", "x") == tmp_path / "link" / "x"


class TestFolderLock:
    def test_waits_and_says_so(self, tmp_path: Path) -> None:
        entered = threading.Event()
        waiting = threading.Event()
        heard: list[str] = []

        def hear(line: str) -> None:
            heard.append(line)
            waiting.set()

        def other() -> None:
            with files.folder_lock(tmp_path / "locks", on_wait=hear):
                entered.set()

        thread = threading.Thread(target=other)
        with files.folder_lock(tmp_path / "locks"):
            thread.start()
            assert waiting.wait(10)
            assert not entered.is_set()
        thread.join(10)
        assert entered.is_set()
        assert len(heard) == 1 and str(tmp_path / "locks" / ".lock") in heard[0]

    def test_without_waiting(self, tmp_path: Path) -> None:
        with (
            files.folder_lock(tmp_path) as first,
            files.folder_lock(tmp_path, wait=False) as second,
        ):
            assert first and not second
            with files.folder_lock(tmp_path, name="other", wait=False) as third:
                assert third
        with files.folder_lock(tmp_path, wait=False) as again:
            assert again

    def test_a_killed_holder_lets_go(self, tmp_path: Path) -> None:
        script = """
        import os, sys
        from pathlib import Path
        from tailwire.runtime.files import folder_lock
        with folder_lock(Path(sys.argv[1])):
            print("held", flush=True)
            sys.stdin.read()
        """
        command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with files.folder_lock(tmp_path, wait=False) as held:
                assert not held
            holder.kill()
        with files.folder_lock(tmp_path, wait=False) as held:
            assert held

    def test_a_folder_that_cannot_be_locked(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with (
            pytest.raises(CacheError, match="TAILWIRE_CACHE"),
            files.folder_lock(tmp_path / "file" / "sub"),
        ):
            pytest.fail("entered")

    def test_file_systems_without_locks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files.fcntl, "flock", raising(errno.ENOLCK))
        with pytest.raises(CacheError, match="local disk"), files.folder_lock(tmp_path):
            pytest.fail("entered")


def test_sizes_in_words() -> None:
    assert files.readable_bytes(7) == "7 B"
    assert files.readable_bytes(98_362_432) == "98.4 MB"
    assert files.readable_bytes(12_300_000_000) == "12.3 GB"


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert files.free_bytes(tmp_path / "file" / "a" / "b") > 0
