from __future__ import annotations

import numpy as np

from diffrelax.clock import NO_TIME
from diffrelax.dft.recorder import Call, Recorder
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
