from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from diffrelax.atomic import replacing


def test_a_file_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def watch(name: str) -> None:
        real = getattr(os, name)

        def watched(*arguments: Any) -> None:
            done.append(name)
            real(*arguments)

        monkeypatch.setattr(os, name, watched)

    for name in ("fsync", "replace"):
        watch(name)
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert done == ["fsync", "replace"]
    assert [file.read_text() for file in tmp_path.iterdir()] == ["new"]


def test_a_block_that_raises_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="no space left"), replacing(path) as part:
        part.write_text("ne")
        raise OSError("no space left")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    message = f"No space left on device: '{path}'"
    with pytest.raises(OSError, match=message), replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_link_stays_one_and_permissions_are_kept(tmp_path: Path) -> None:
    path, link = tmp_path / "a.txt", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o600)
    link.symlink_to(path)
    with replacing(link) as part:
        part.write_text("new")
    assert link.is_symlink()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)


def test_an_error_of_a_copy_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    with pytest.raises(OSError, match="too large") as caught, replacing(path) as part:
        raise OSError(errno.EFBIG, "File too large", "a.txt", None, str(part))
    assert (caught.value.filename, caught.value.filename2) == ("a.txt", str(path))
