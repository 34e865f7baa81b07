"""A finished unit of work is read once where it is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diffrelax.benchmark.speedup.arms import Subject
from diffrelax.benchmark.speedup.units import Units
from diffrelax.cache import WorkFolder
from diffrelax.flows.levels import ForceFieldRelaxMaker
from diffrelax.molecule import Molecule
from diffrelax.results import documents


def start(folder: Path) -> object:
    water = Subject("water", Molecule.from_smiles("O"))
    return Units(WorkFolder(folder)).start(water, "uff").molecule.positions.tolist()


def job(folder: Path) -> object:
    return ForceFieldRelaxMaker(work=str(folder))._unit("O")


@pytest.mark.parametrize("do", [start, job])
def test_a_finished_unit_is_read_once(
    do: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, read, reader = do(tmp_path), [], documents.read_document
    monkeypatch.setattr(
        documents, "read_document", lambda record: read.append(record) or reader(record)
    )
    assert do(tmp_path) == done
    assert len(read) == 1
