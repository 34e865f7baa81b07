"""A finished unit of work is read once where it is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ase.calculators.calculator import CalculationFailed

from diffrelax.benchmark.speedup.arms import Subject
from diffrelax.benchmark.speedup.units import Units
from diffrelax.dft import DFTSettings
from diffrelax.flows.levels import DFTRelaxMaker, ForceFieldRelaxMaker
from diffrelax.levels.density_functional import DensityFunctional
from diffrelax.molecule import Molecule
from diffrelax.results import stored
from diffrelax.store import Store


def start(folder: Path) -> object:
    water = Subject("water", Molecule.from_smiles("O"))
    return Units(Store.in_folder(folder)).start(water, "uff").molecule.positions.tolist()


def job(folder: Path) -> object:
    return ForceFieldRelaxMaker(work=str(folder))._unit("O")


@pytest.mark.parametrize("do", [start, job])
def test_a_finished_unit_is_read_once(
    do: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, read, reader = do(tmp_path), [], stored.read_document
    monkeypatch.setattr(
        stored, "read_document", lambda record: read.append(record) or reader(record)
    )
    assert do(tmp_path) == done
    assert len(read) == 1


CHEAP = {"xc": "lda,vwn", "basis": "sto-3g", "hessian": "none"}


def dft_of_a_speedup(folder: Path) -> float | None:
    units = Units(Store.in_folder(folder))
    return units.relax(Molecule.from_smiles("[H][H]"), DFTSettings(**CHEAP)).energy


def dft_of_a_flow(folder: Path) -> float | None:
    return DFTRelaxMaker(work=str(folder), settings=CHEAP)._unit("[H][H]")["energy"]


@pytest.mark.parametrize("do", [dft_of_a_speedup, dft_of_a_flow])
def test_a_relaxation_that_never_had_an_energy_is_done_again(
    do: Callable[[Path], float | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise CalculationFailed("the licence server is away")

    with monkeypatch.context() as away:
        away.setattr(DensityFunctional, "calculate", crash)
        assert do(tmp_path) is None
    assert do(tmp_path) is not None
