from __future__ import annotations

import ase
import numpy as np
import pytest

from diffrelax.clock import NO_TIME
from diffrelax.dft.descent import minimise
from diffrelax.dft.recorder import Call, Recorder
from diffrelax.dft.settings import DFTSettings
from diffrelax.levels import get_calculator
from diffrelax.molecule import Molecule


def test_another_geometry_ends_the_record_of_an_earlier_life() -> None:
    molecule = Molecule.from_smiles("O")
    moved = molecule.with_positions(1.01 * molecule.positions)
    record = [Call(molecule, energy, np.zeros((3, 3)), NO_TIME) for energy in (-100.0, -200.0)]
    recorder = Recorder(molecule, get_calculator("uff", molecule), record)
    asked = [molecule.to_atoms(), moved.to_atoms(), molecule.to_atoms()]
    recalled, *calculated = [recorder.get_potential_energy(atoms) for atoms in asked]
    assert recalled == -100.0
    assert all(energy > -1 for energy in calculated)
    assert [call.energy for call in recorder.calls] == [recalled, *calculated]
    assert recorder.discarded == 1


class OnCoarseGrid:
    """UFF with forces that move and turn the molecule as a whole."""

    hessian = state = None

    def __init__(self, molecule: Molecule) -> None:
        self.exact = get_calculator("uff", molecule)

    def get_potential_energy(self, atoms: ase.Atoms) -> float:
        return float(self.exact.get_potential_energy(atoms))

    def get_forces(self, atoms: ase.Atoms) -> np.ndarray:
        about = atoms.positions - atoms.positions.mean(axis=0)
        return np.asarray(self.exact.get_forces(atoms)) + 0.01 * (1 + np.cross([0, 0, 1], about))


def test_errors_of_a_grid_keep_no_optimizer_from_its_end(optimizer: str) -> None:
    molecule = Molecule.from_smiles("CCO")
    settings = DFTSettings(optimizer=optimizer, fmax=0.002, max_steps=100)
    found = []
    for calculator in (OnCoarseGrid(molecule), get_calculator("uff", molecule)):
        recorder = Recorder(molecule, calculator)
        assert not minimise(recorder, molecule, None, settings)
        found.append(recorder.calls)
    coarse, exact = found
    assert len(coarse) == pytest.approx(len(exact), abs=2)
    assert coarse[-1].energy == pytest.approx(exact[-1].energy, abs=1e-5)
    assert coarse[-1].fmax < settings.fmax < 0.01 < np.linalg.norm(coarse[-1].forces, axis=1).max()
    assert coarse[0].internal_forces == pytest.approx(exact[0].forces, abs=1e-9)
