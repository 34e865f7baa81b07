from __future__ import annotations

import numpy as np
import pytest

from diffrelax.levels.force_field import ForceField
from diffrelax.molecule import Molecule
from diffrelax.molecule.reembedding import embed_again
from diffrelax.molecule.torsions import Rotors, torsion_angles
from diffrelax.sampling.conformers.moves import cross, kick, soft_modes


def test_a_crossing_has_each_torsion_of_one_parent_or_the_other() -> None:
    ether = Molecule.from_smiles("CCOCCCO")
    rotors, other = Rotors.of(ether), embed_again(ether, 7)
    child = cross(rotors, ether.positions, other.positions, np.random.default_rng(1))
    one, two, got = (
        torsion_angles(positions, rotors.torsions)
        for positions in (ether.positions, other.positions, child)
    )
    apart = [abs(np.exp(1j * got) - np.exp(1j * parent)) for parent in (one, two)]
    assert np.minimum(*apart) == pytest.approx(0, abs=1e-6)
    assert all((gap < 1e-6).sum() < len(rotors) for gap in apart)


def test_a_kick_follows_soft_modes_and_stays_in_place() -> None:
    ring = Molecule.from_smiles("C1CCCCCCCC1")
    modes = soft_modes(ring, ForceField(ring, "mmff94"))
    kicked = kick(ring.positions, modes, np.random.default_rng(0))
    step = kicked - ring.positions
    assert step.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert 1.5 <= np.linalg.norm(step, axis=1).max() <= 4
