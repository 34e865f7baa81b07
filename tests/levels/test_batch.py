import numpy as np
import pytest
from ase.optimize import BFGS

from diffrelax.levels import get_calculator, side_by_side
from diffrelax.levels.aimnet2 import evaluate
from diffrelax.levels.batch import relax_many
from diffrelax.levels.side_by_side import relax_side_by_side
from diffrelax.molecule import Molecule

SMILES = ("CCO", "C[NH3+]", "O=CC#N", "CC(=O)[O-]", "CCCC", "ClCCBr", "c1ccsc1")


class Springs:
    """Each atom is tied to its first position, moved by a known shift, by a spring of its own."""

    def __init__(self, molecules):
        rng = np.random.default_rng(3)
        self.minima = {m.name: m.positions + rng.normal(0, 0.1, (m.n_atoms, 3)) for m in molecules}
        self.constants = {m.name: rng.uniform(5, 80, (m.n_atoms, 1)) for m in molecules}
        self.sizes = []

    def __call__(self, molecules, geometries):
        self.sizes.append(len(molecules))
        away = [x - self.minima[m.name] for m, x in zip(molecules, geometries, strict=True)]
        pulls = [self.constants[m.name] * d for m, d in zip(molecules, away, strict=True)]
        energies = [0.5 * (p * d).sum() for p, d in zip(pulls, away, strict=True)]
        return np.array(energies), [-pull for pull in pulls]


def test_finds_the_minima_of_springs_and_keeps_calls_full(monkeypatch):
    monkeypatch.setattr(side_by_side, "N_PARALLEL", 3)
    molecules = [Molecule.from_smiles(smiles) for smiles in SMILES]
    springs = Springs(molecules)
    ends = list(relax_side_by_side(molecules, springs, fmax=1e-4))
    assert sorted(end.molecule.name for end in ends) == sorted(SMILES)
    for end in ends:
        assert end.fmax < 1e-4
        assert np.allclose(end.positions, springs.minima[end.molecule.name], atol=1e-4)
        assert end.energy == pytest.approx(0, abs=1e-6)
    assert max(springs.sizes) == 3
    assert sum(springs.sizes) == sum(end.n_calls for end in ends)
    assert all(size == 3 for size in springs.sizes[: len(springs.sizes) // 3])


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
def test_a_single_atom_costs_no_other_molecule():
    molecules = [Molecule.from_smiles(s) for s in ("[Br-]", "C")]
    atom, methane = relax_many(molecules, "aimnet2", fmax=0.02)
    assert (atom.reason, atom.n_calls, methane.reason) == ("", 1, "")


def test_what_does_not_converge_says_so_and_ends():
    molecules = [Molecule.from_smiles(smiles) for smiles in SMILES[:2]]
    ends = list(relax_side_by_side(molecules, Springs(molecules), fmax=1e-9, max_calls=2))
    assert [end.n_calls for end in ends] == [2, 2]
    assert all(end.fmax > 1e-9 for end in ends)


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
@pytest.mark.parametrize("smiles", ["CC(=O)[O-]", "c1ccsc1"])
def test_reaches_the_minimum_of_bfgs_in_fewer_calls(smiles):
    molecules = [Molecule.from_smiles(s) for s in SMILES]
    ends = relax_side_by_side(molecules, evaluate, fmax=0.01)
    (end,) = (end for end in ends if end.molecule.name == smiles)
    atoms = end.molecule.to_atoms()
    atoms.calc = get_calculator("aimnet2", end.molecule)
    alone = BFGS(atoms, logfile=None)
    alone.run(fmax=0.01)
    assert end.fmax < 0.01
    assert end.energy == pytest.approx(atoms.get_potential_energy(), abs=2e-3)
    assert end.n_calls < alone.nsteps
