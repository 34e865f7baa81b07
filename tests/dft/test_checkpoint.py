from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffrelax.dft import DFTRelaxation, relax_dft
from diffrelax.levels.density_functional import DensityFunctional
from diffrelax.molecule import Molecule
from diffrelax.store import Store

SETTINGS: dict[str, Any] = {"xc": "lda,vwn", "basis": "sto-3g", "threads": 1}
LIFE_THAT_IS_KILLED = """
import os, signal, sys
from pathlib import Path
from diffrelax.dft import relax_dft
from diffrelax.molecule import Molecule

def die(call, *_):
    if call == 2:
        os.kill(os.getpid(), signal.SIGKILL)

relax_dft(Molecule.from_smiles(sys.argv[1]), xc="lda,vwn", basis="sto-3g", threads=1,
          optimizer=sys.argv[2], checkpoint=Path(sys.argv[3]), callback=die)
"""


class StoppedError(Exception):
    """Raised in the middle of a relaxation."""


def stop_at(number: int) -> Any:
    def callback(call: int, *_: float) -> None:
        if call == number:
            raise StoppedError

    return callback


def assert_same_path(one: DFTRelaxation, other: DFTRelaxation) -> None:
    np.testing.assert_array_equal(one.trajectory, other.trajectory)
    np.testing.assert_array_equal(one.forces, other.forces)
    assert one.energies == other.energies
    assert one.molecule.start == other.molecule.start == "dft"
    assert one.scf_cycles == other.scf_cycles


@pytest.mark.slow
def test_killed_relaxation_goes_on_along_the_same_path(tmp_path: Path, optimizer: Any) -> None:
    molecule = Molecule.from_smiles("OO")
    uninterrupted = relax_dft(molecule, optimizer=optimizer, **SETTINGS)
    assert uninterrupted.converged and uninterrupted.gradient_calls > 3

    path = tmp_path / "dft.units"
    arguments = [sys.executable, "-c", LIFE_THAT_IS_KILLED, "OO", optimizer, str(path)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    numbers: list[int] = []
    restarted = relax_dft(
        molecule,
        optimizer=optimizer,
        checkpoint=path,
        callback=lambda number, *_: numbers.append(number),
        **SETTINGS,
    )
    assert numbers == list(range(3, uninterrupted.gradient_calls + 1))
    assert_same_path(restarted, uninterrupted)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_costs_of_all_lives_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    molecule = Molecule.from_smiles("OO")
    calculations = 0
    calculate = DensityFunctional.calculate

    def counted(self: DensityFunctional, *arguments: Any) -> None:
        nonlocal calculations
        calculations += "forces" in arguments[1]
        calculate(self, *arguments)

    monkeypatch.setattr(DensityFunctional, "calculate", counted)
    path = tmp_path / "dft.units"
    for number in (1, 3):
        with pytest.raises(StoppedError):
            relax_dft(molecule, checkpoint=path, callback=stop_at(number), **SETTINGS)
    finished = relax_dft(molecule, checkpoint=path, **SETTINGS)
    again = relax_dft(molecule, checkpoint=path, **SETTINGS)
    assert calculations == finished.gradient_calls == again.gradient_calls
    assert_same_path(again, finished)
    for clock in ("wall", "processor"):
        before = {stage: getattr(time, clock) for stage, time in finished.times.items()}
        after = {stage: getattr(time, clock) for stage, time in again.times.items()}
        assert after["dft"] == pytest.approx(before["dft"])
        assert after["hessian"] == before["hessian"] > 0
        assert after["total"] > before["dft"] + before["hessian"]
    again_alone = again.times["total"].processor - finished.times["total"].processor
    assert abs(again_alone) < finished.times["dft"].processor  # nothing of the first life twice


@pytest.mark.parametrize("optimizer", ["bfgs", "tric"])
def test_a_start_with_other_last_digits_goes_on(tmp_path: Path, optimizer: Any) -> None:
    """As a network gives it on another processor."""
    molecule, path = Molecule.from_smiles("OO"), tmp_path / "dft.units"
    settings = SETTINGS | {"optimizer": optimizer, "checkpoint": path}
    short = relax_dft(molecule, max_steps=1, **settings)
    elsewhere = molecule.with_positions(molecule.positions + 1.3e-6)
    whole = relax_dft(elsewhere, **settings)
    assert whole.converged and whole.energies[:2] == short.energies
    assert not whole.notes
    far = molecule.with_positions(molecule.positions * 1.001)
    assert relax_dft(far, max_steps=0, **settings).energies[0] != short.energies[0]


def test_more_steps_and_a_check_of_the_minimum_go_on_from_what_is_known(tmp_path: Path) -> None:
    molecule, path = Molecule.from_smiles("OO"), tmp_path / "dft.units"
    short = relax_dft(molecule, max_steps=1, checkpoint=str(path), **SETTINGS)
    assert (short.converged, short.gradient_calls) == (False, 2)
    whole = relax_dft(molecule, checkpoint=path, **SETTINGS)
    assert whole.converged
    assert whole.energies[:2] == short.energies
    checked = relax_dft(molecule, check_minimum="gfn2-xtb", checkpoint=path, **SETTINGS)
    assert checked.energies == whole.energies
    assert checked.times["dft"] == whole.times["dft"]
    assert checked.lowest_frequency is not None
    assert checked.scf_cycles == whole.scf_cycles
    again = relax_dft(molecule, max_steps=1, checkpoint=path, **SETTINGS)
    assert (again.converged, again.energies) == (False, short.energies)
    assert relax_dft(molecule, checkpoint=path, **SETTINGS).energies == whole.energies


def test_a_tighter_end_goes_on_from_a_looser_one(tmp_path: Path) -> None:
    molecule, path = Molecule.from_smiles("OO"), tmp_path / "dft.units"
    made: list[int] = []

    def calls(fmax: float) -> int:
        settings = SETTINGS | {"fmax": fmax, "optimizer": "tric"}
        return relax_dft(
            molecule, checkpoint=path, callback=lambda n, *_: made.append(n), **settings
        ).gradient_calls

    loose, tight, again = calls(0.1), calls(0.005), calls(0.1)
    assert loose == again < tight
    assert made == list(range(1, tight + 1))


def test_second_order_scf_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyscf.scf.hf.SCF.max_cycle", 4)
    molecule = Molecule.from_smiles("OO", multiplicity=3)
    uninterrupted = relax_dft(molecule, max_steps=2, **SETTINGS)
    path = tmp_path / "dft.units"
    with pytest.raises(StoppedError):
        relax_dft(molecule, max_steps=2, checkpoint=path, callback=stop_at(2), **SETTINGS)
    restarted = relax_dft(molecule, max_steps=2, checkpoint=path, **SETTINGS)
    assert "second-order" in "".join(uninterrupted.notes)
    assert restarted.notes == uninterrupted.notes
    assert_same_path(restarted, uninterrupted)


def test_relaxations_share_a_checkpoint(tmp_path: Path) -> None:
    path, water = tmp_path / "dft.units", Molecule.from_smiles("O")
    moved = water.with_positions(water.positions * 1.01)
    coarse = SETTINGS | {"grid_level": 2}
    others = ((water, SETTINGS), (moved, SETTINGS), (Molecule.from_smiles("CO"), SETTINGS),
              (water, coarse))  # fmt: skip
    first = [relax_dft(one, checkpoint=path, **settings) for one, settings in others]
    for (molecule, settings), known in zip(others, first, strict=True):
        again = relax_dft(molecule, checkpoint=path, callback=stop_at(1), **settings)
        assert_same_path(again, known)


def test_a_checkpoint_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path, water = tmp_path / "dft.units", Molecule.from_smiles("O")
    path.write_text("mine")
    with pytest.raises(ValueError, match="damaged, or not a store"):
        relax_dft(water, checkpoint=path, **SETTINGS)
    assert path.read_text() == "mine"
    with pytest.raises(OSError, match="unable to open"):
        relax_dft(water, checkpoint=tmp_path / "none" / "a.units", **SETTINGS)


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the one checkpoint in a store."""
    store = Store(path)
    ((key, kind),) = store._database.execute("SELECT key, kind FROM units")
    document = store.find(key)
    change(document)
    store.keep(key, document, kind)


def test_calls_that_a_restart_does_not_repeat_are_told(tmp_path: Path) -> None:
    water, path = Molecule.from_smiles("O"), tmp_path / "dft.units"
    whole = relax_dft(water, checkpoint=path, **SETTINGS)
    assert whole.gradient_calls >= 3

    def go_elsewhere(document: dict[str, Any]) -> None:
        """As another version of the optimizer might have."""
        document["calls"][1]["positions"] = (water.positions * 1.001).tolist()

    changed(path, go_elsewhere)
    for _ in range(2):
        other = relax_dft(water, checkpoint=path, **SETTINGS)
        (note,) = other.notes
        lost = whole.gradient_calls - 1
        told = "the checkpoint is from a restart or other settings"
        assert note == f"{told}: its {lost} calls are not counted"
        assert other.gradient_calls == whole.gradient_calls


def test_relaxation_without_a_hessian_restarts(tmp_path: Path) -> None:
    path = tmp_path / "dft.units"
    water = Molecule.from_smiles("O")
    with pytest.raises(StoppedError):
        relax_dft(water, hessian="none", checkpoint=path, callback=stop_at(2), **SETTINGS)
    restarted = relax_dft(water, hessian="none", checkpoint=path, **SETTINGS)
    assert_same_path(restarted, relax_dft(water, hessian="none", **SETTINGS))


def test_a_hessian_is_not_calculated_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    molecule, path = Molecule.from_smiles("O"), tmp_path / "dft.units"
    calculated = 0
    calculate = DensityFunctional.hessian

    def counted(self: DensityFunctional, *arguments: Any) -> np.ndarray:
        nonlocal calculated
        calculated += 1
        return calculate(self, *arguments)

    def stop(*_: object) -> None:
        raise StoppedError

    monkeypatch.setattr(DensityFunctional, "hessian", counted)
    with monkeypatch.context() as patch:
        patch.setattr("diffrelax.dft.minimum.vibrations", stop)
        with pytest.raises(StoppedError):
            relax_dft(molecule, thermo="dft", checkpoint=path, **SETTINGS)
    resumed = relax_dft(molecule, thermo="dft", checkpoint=path, **SETTINGS)
    warmer = relax_dft(molecule, thermo="dft", temperature=400.0, checkpoint=path, **SETTINGS)
    assert calculated == 1
    assert resumed.thermochemistry is not None and warmer.thermochemistry is not None
    assert resumed.thermochemistry.frequencies == warmer.thermochemistry.frequencies
    assert resumed.times["check"].wall == pytest.approx(warmer.times["check"].wall, abs=0.1)


def test_the_work_of_a_check_by_others_is_not_counted(tmp_path: Path) -> None:
    molecule, path = Molecule.from_smiles("O"), tmp_path / "dft.units"
    alone = relax_dft(molecule, **SETTINGS)
    relax_dft(molecule, thermo="dft", checkpoint=path, **SETTINGS)

    def take_longer(document: dict[str, Any]) -> None:
        document["hessians"][0][2][0] += 1e6  # s, on the wall

    changed(path, take_longer)
    shared = relax_dft(molecule, checkpoint=path, **SETTINGS)
    checked = relax_dft(molecule, thermo="dft", checkpoint=path, **SETTINGS)
    assert shared.scf_cycles == checked.scf_cycles == alone.scf_cycles
    assert shared.times["total"].wall < 1e6 < checked.times["check"].wall
    assert checked.times["total"].wall > checked.times["check"].wall
