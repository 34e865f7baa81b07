from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from diffrelax.cache import WorkFolder, work_key
from diffrelax.molecule import Molecule


@pytest.fixture(scope="module")
def methanol() -> Molecule:
    return Molecule.from_smiles("CO")


def test_a_key_is_the_same_in_another_process(methanol: Molecule) -> None:
    settings = {"xc": "b3lyp", "fmax": 0.03}
    program = (
        "from diffrelax.molecule import Molecule; from diffrelax.cache import work_key;"
        "print(work_key('dft', Molecule.from_smiles('CO'), {'fmax': 0.03, 'xc': 'b3lyp'}))"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert other.stdout.strip() == work_key("dft", methanol, settings)


def test_a_key_survives_a_name_and_rounding_but_no_change_of_the_work(methanol: Molecule) -> None:
    key = work_key("dft", methanol, {"fmax": 0.03})
    assert work_key("dft", replace(methanol, name="another"), {"fmax": 0.03}) == key
    nudged = methanol.positions.round(6) + 1e-8
    assert work_key("dft", methanol.with_positions(nudged), {"fmax": 0.03}) == key
    moved = methanol.positions + 1e-5
    others = [
        work_key("static", methanol, {"fmax": 0.03}),
        work_key("dft", methanol.with_positions(moved), {"fmax": 0.03}),
        work_key("dft", methanol, {"fmax": 0.02}),
        work_key("dft", methanol, {"fmax": 0.03}, model_sha256="ab"),
        work_key("dft", methanol, {"fmax": 0.03}, seed=1),
        work_key("dft", "CO", {"fmax": 0.03}),
        work_key("dft", replace(methanol, multiplicity=3), {"fmax": 0.03}),
        work_key("dft", replace(methanol, charge=2, formal_charges=()), {"fmax": 0.03}),
        work_key("dft", replace(methanol, bonds=()), {"fmax": 0.03}),
        work_key("dft", replace(methanol, numbers=methanol.numbers[::-1]), {"fmax": 0.03}),
    ]
    assert len({key, *others}) == 11


def test_a_key_refuses_what_has_no_canonical_form(methanol: Molecule) -> None:
    with pytest.raises(ValueError, match="cannot be part of a key"):
        work_key("dft", methanol, {"fmax": float("nan")})
    with pytest.raises(ValueError, match="cannot be part of a key"):
        work_key("dft", methanol, {"path": Path("a")})


def test_a_finished_unit_is_found_again_and_its_checkpoint_is_gone(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path / "work")
    key = work_key("dft", "CO", {})
    assert folder.find(key) is None
    folder.checkpoint(key).write_text("half")
    folder.keep(key, {"energy": -1.5, "name": "méthanol"})
    assert WorkFolder(tmp_path / "work").find(key) == {"energy": -1.5, "name": "méthanol"}
    assert not folder.checkpoint(key).exists()
    assert [path.suffix for path in folder.path.iterdir()] == [".json"]


def test_a_unit_that_cannot_be_written_leaves_the_last_one_and_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = WorkFolder(tmp_path)
    folder.keep("ab", {"energy": -1.0})
    folder.checkpoint("ab").write_text("half")

    def write_a_part(path: Path, text: str, **_: object) -> None:
        path.write_bytes(text[:5].encode())
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", write_a_part)
    with pytest.raises(OSError, match="no space left"):
        folder.keep("ab", {"energy": -2.0})
    assert folder.find("ab") == {"energy": -1.0}
    assert sorted(tmp_path.iterdir()) == [folder.checkpoint("ab"), tmp_path / "ab.json"]


@pytest.mark.parametrize("text", [json.dumps({"a": 1})[:-2], "", "[]"])
def test_a_damaged_unit_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    folder = WorkFolder(tmp_path)
    (tmp_path / "ab.json").write_text(text)
    assert folder.find("ab") is None
    folder.keep("ab", {"a": 1})
    assert folder.find("ab") == {"a": 1}


@pytest.mark.parametrize("damage", [lambda pack: pack[:-9], lambda pack: pack[:20] + bytes(8)])
def test_a_damaged_pack_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = WorkFolder(tmp_path / "units")
    folder.keep("a", {"name": "methane"})
    folder.pack()
    pack = tmp_path / "units.jsonl.gz"
    pack.write_bytes(damage(pack.read_bytes()))
    with pytest.raises(ValueError, match=r"units.jsonl.gz is damaged"):
        WorkFolder(tmp_path / "units").find("b")


def test_the_folder_here_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert WorkFolder(".").find("a") is None


def test_packed_units_are_found_and_new_ones_join_them(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path / "units")
    folder.keep("b", {"name": "ethane", "energy": -2.0})
    folder.keep("a", {"name": "methane", "energy": -1.0})
    assert folder.pack() == 2
    pack = tmp_path / "units.jsonl.gz"
    before = pack.read_bytes()
    for path in folder.path.iterdir():
        path.unlink()
    again = WorkFolder(tmp_path / "units")
    assert again.find("a") == {"name": "methane", "energy": -1.0}
    assert again.find("c") is None
    assert again.pack() == 2 and pack.read_bytes() == before
    again.keep("c", {"name": "méthanol"})
    again.keep("a", {"name": "methane", "energy": -1.5})
    (again.path / "d.json").write_text("damaged")
    assert again.find("a") == {"name": "methane", "energy": -1.5}
    assert again.pack() == 3
    assert pack.read_bytes().startswith(before)
    lines = [json.loads(line) for line in gzip.decompress(pack.read_bytes()).splitlines()]
    assert [line["key"] for line in lines] == ["b", "a", "a", "c"]
    for path in again.path.iterdir():
        path.unlink()
    for folder in (again, WorkFolder(tmp_path / "units")):
        assert folder.find("a") == {"name": "methane", "energy": -1.5}


def test_a_unit_is_done_once_unless_what_is_there_is_not_whole(tmp_path: Path) -> None:
    folder, calls = WorkFolder(tmp_path), []

    def do(energy: float | None) -> Callable[[], dict[str, float | None]]:
        return lambda: calls.append(energy) or {"energy": energy}

    def whole(document: dict[str, float | None]) -> dict[str, float | None] | None:
        return None if document["energy"] is None else document

    assert folder.find_or_do("a", do(None), whole, whole) == {"energy": None}
    assert folder.find_or_do("a", do(-1.0), whole, whole) == {"energy": -1.0}
    assert folder.find_or_do("a", do(-2.0), whole, whole) == {"energy": -1.0}
    folder.keep("a", {"energy": None})
    assert folder.find_or_do("a", do(-3.0), whole, whole) == {"energy": -3.0}
    assert calls == [None, -1.0, -3.0]


@pytest.mark.parametrize("path", [None, ""])
def test_without_a_folder_nothing_is_kept(path: str | None) -> None:
    nowhere = WorkFolder.of(path)
    assert [nowhere.find_or_do("a", lambda i=i: {"i": i})["i"] for i in range(2)] == [0, 1]
    assert nowhere.checkpoint("a") is None
