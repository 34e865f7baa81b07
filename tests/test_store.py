from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffrelax.molecule import Molecule
from diffrelax.store import PAGE, Store, work_key


@pytest.fixture(scope="module")
def methanol() -> Molecule:
    return Molecule.from_smiles("CO")


def test_a_key_is_the_same_in_another_process(methanol: Molecule) -> None:
    settings = {"xc": "b3lyp", "fmax": 0.03}
    program = (
        "from diffrelax.molecule import Molecule; from diffrelax.store import work_key;"
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


def test_a_unit_is_found_again_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; from diffrelax.store import Store;"
        "Store(sys.argv[1]).keep('a', {'energy': -1.5, 'name': 'méthanol'})"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "some.units"], check=True)
    store = Store(tmp_path / "some.units")
    assert store.find("a") == {"energy": -1.5, "name": "méthanol"} and store.find("b") is None


def test_a_store_that_is_read_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "some.units"
    Store(path).keep("a", {"x": 1})
    before = path.read_bytes()
    assert Store(path).find("a") == {"x": 1}
    assert path.read_bytes() == before


def test_units_are_kept_in_order_replaced_and_dropped(tmp_path: Path) -> None:
    store, n = Store(tmp_path / "some.units"), PAGE + 1
    store.keep_all({f"key {i}": {"i": i} for i in range(n)})
    store.keep("key 1", {"i": n}, "unit")
    store.keep("array", {"x": np.eye(2)}, "dft other")
    assert [unit["i"] for _, unit in store.each()] == [0, *range(2, n), n]
    assert list(store.each("dft other")) == [("array", {"x": [[1.0, 0.0], [0.0, 1.0]]})]
    store.drop(key="key 0")
    store.drop(kind="dft *")
    assert store.find("array") is None and store.find("key 0") is None
    store.drop()
    assert list(store.each()) == []


def test_what_is_not_kept_whole_is_not_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "some.units")
    store.keep("ab", {"energy": -1.0})
    with pytest.raises(AttributeError):
        store.keep_all({"ab": {"energy": -2.0}, "cd": {"energy": object()}})
    assert dict(Store(tmp_path / "some.units").each()) == {"ab": {"energy": -1.0}}


KILLED = """
import sys
from diffrelax.store import Store
store = Store(sys.argv[1])
for i in range(10_000):
    store.keep_all({f"{i} {j}": {"text": 1000 * "x"} for j in range(50)})
    print(i, flush=True)
"""


def test_killed_at_any_moment_it_has_whole_parts(tmp_path: Path) -> None:
    for parts in (1, 4, 11):
        command = [sys.executable, "-c", KILLED, tmp_path / "some.units"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            for _ in range(parts):
                process.stdout.readline()
            process.kill()
        n = sum(1 for _ in Store(tmp_path / "some.units").each())
        assert n % 50 == 0 and n >= 50 * parts


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "some.units")
    store.keep("a", {"x": 1})
    store._database.execute("PRAGMA max_page_count = 8")
    with pytest.raises(OSError, match=r"No space left on device: '.*some\.units'"):
        store.keep("b", {"x": 100_000 * "x"})
    assert dict(Store(tmp_path / "some.units").each()) == {"a": {"x": 1}}


def test_a_store_is_shared_unless_a_process_must_be_alone(tmp_path: Path) -> None:
    path = tmp_path / "some.units"
    one, other = Store(path), Store(path)
    one.keep("a", {"x": 1})
    other.keep("b", {"x": 2})
    assert dict(one.each()) == {"a": {"x": 1}, "b": {"x": 2}}
    alone = Store(path, alone=True)
    with pytest.raises(ValueError, match=r"another process is writing .*some\.units: wait"):
        Store(path, alone=True)
    alone.close()
    Store(path, alone=True).close()


@pytest.mark.parametrize("data", [b"a text that is no store\n" * 100, bytes(5000)])
def test_a_damaged_store_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "some.units"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"some\.units is damaged, or not a store"):
        Store(path)
    with pytest.raises(OSError, match="unable to open"):
        Store(tmp_path / "none" / "some.units")


def test_a_unit_is_done_once_unless_what_is_there_is_not_whole(tmp_path: Path) -> None:
    folder, calls = Store(tmp_path / "some.units"), []

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


def test_without_a_path_units_are_kept_in_memory() -> None:
    store = Store(None)
    assert [store.find_or_do("a", lambda i=i: {"i": i})["i"] for i in range(2)] == [0, 0]
    assert Store.in_folder("").find("a") is None


def test_quick_units_are_found_at_once_and_kept_soon(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "some.units"
    with Store(path) as store:
        store.keep_soon("a", {"x": 1})
        assert store.find("a") == {"x": 1} and Store(path).find("a") is None
        monkeypatch.setattr("diffrelax.store.SOON", 0.0)
        store.keep_soon("b", {"x": 2})
        assert dict(Store(path).each()) == {"a": {"x": 1}, "b": {"x": 2}}
        monkeypatch.undo()
        store.keep_soon("c", {"x": 3})
    assert Store(path).find("c") == {"x": 3}
