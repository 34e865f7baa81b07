from __future__ import annotations

from typing import ClassVar

import ase
import numpy as np
import pytest
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.optimize import BFGS

from diffrelax.dft.hessian import positive_hessian
from diffrelax.dft.optimizers.internal import FORCE_NOISE
from diffrelax.dft.optimizers.trust_radius import TrustRadiusBFGS, _newton_step
from diffrelax.dft.recorder import Recorder
from diffrelax.levels import get_calculator
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.molecule import Molecule


class Surface(Calculator):
    """An energy of one atom's position, with its gradient; keeps what it was asked."""

    implemented_properties: ClassVar = ["energy", "forces"]

    def __init__(self, energy, gradient):
        super().__init__()
        self.energy, self.gradient = energy, gradient
        self.path = []

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x = self.atoms.positions[0]
        self.path.append(x.copy())
        self.results = {"energy": self.energy(x), "forces": -self.gradient(x)[None]}


def atom_on(surface: Surface, position: tuple[float, float, float]) -> ase.Atoms:
    atoms = ase.Atoms("H", positions=[position])
    atoms.calc = surface
    return atoms


class Springs(TrustRadiusBFGS):
    """An atom on springs: no motion is that of a molecule as a whole."""

    def start_hessian(self) -> np.ndarray:
        return self.hessian


def minimise(atoms: ase.Atoms, hessian: np.ndarray, fmax: float, steps: int) -> bool:
    kind = Springs if len(atoms) == 1 else TrustRadiusBFGS
    return kind(atoms, logfile=None, hessian=hessian).run(fmax, steps)


def spring(constants: np.ndarray) -> Surface:
    return Surface(lambda x: x @ constants @ x / 2, lambda x: constants @ x)


def test_exact_hessian_needs_one_step() -> None:
    constants = np.array([[40.0, 5.0, 0.0], [5.0, 2.0, 0.3], [0.0, 0.3, 9.0]])
    surface = spring(constants)
    atoms = atom_on(surface, (0.05, -0.08, 0.06))
    assert minimise(atoms, constants, 1e-6, 9)
    assert len(surface.path) == 2
    np.testing.assert_allclose(atoms.positions, 0, atol=1e-9)


def test_step_that_raises_the_energy_is_taken_back_and_shortened() -> None:
    surface = spring(100 * np.eye(3))
    atoms = atom_on(surface, (0.05, 0.0, 0.0))
    assert minimise(atoms, np.eye(3), 0.01, 9)
    start, first, second = (x[0] for x in surface.path[:3])
    assert (start, first) == pytest.approx((0.05, -0.15))
    assert first < second < start
    energies = [surface.energy(x) for x in surface.path]
    assert energies[1] > energies[0] > energies[2]


def test_a_step_that_is_taken_back_is_followed_by_a_quarter_of_it() -> None:
    """The gradient shows no curvature, so that only the radius can bound the steps."""
    surface = Surface(lambda x: float(x[0] != 0), lambda x: np.array([1.0, 0.0, 0.0]))
    assert not minimise(atom_on(surface, (0.0, 0.0, 0.0)), np.eye(3), 1e-3, 4)
    steps = [x[0] for x in surface.path[1:]]
    assert steps == pytest.approx([-0.2 / 4**n for n in range(4)])


def test_a_step_is_the_minimum_of_the_model_in_the_sphere() -> None:
    hessian, gradient = np.diag([1.0, 4.0, 0.5]), np.array([0.3, -1.0, 0.2])
    np.testing.assert_allclose(
        _newton_step(hessian, gradient, np.inf), -gradient / np.diag(hessian)
    )
    step = _newton_step(hessian, gradient, 0.1)
    assert np.linalg.norm(step) == pytest.approx(0.1)
    shift = -(gradient + hessian @ step) / step
    assert shift[0] > 0
    np.testing.assert_allclose(shift, shift[0])


def test_what_is_not_finite_ends_a_relaxation_with_its_reason() -> None:
    molecule = Molecule.from_smiles("O")
    torn = Surface(lambda x: np.nan, lambda x: x)
    torn.calculate = lambda *_: torn.results.update(energy=np.nan, forces=np.zeros((3, 3)))
    with pytest.raises(CalculationFailed, match="not finite"):
        Recorder(molecule, torn).get_forces(molecule.to_atoms())


def test_leaves_a_saddle_downhill() -> None:
    """A double well in x: the curvature that is found there is negative."""
    surface = Surface(
        lambda x: x[0] ** 4 - x[0] ** 2 / 2 + 5 * (x[1] ** 2 + x[2] ** 2),
        lambda x: np.array([4 * x[0] ** 3 - x[0], 10 * x[1], 10 * x[2]]),
    )
    atoms = atom_on(surface, (0.03, 0.05, 0.0))
    assert minimise(atoms, np.diag([1.0, 10.0, 10.0]), 1e-4, 50)
    np.testing.assert_allclose(atoms.positions[0], [0.5, 0, 0], atol=1e-3)
    energies = [surface.energy(x) for x in surface.path]
    accepted = np.minimum.accumulate(energies)
    assert (np.array(energies[1:]) <= accepted[:-1] + FORCE_NOISE).sum() >= len(energies) - 3


def test_steps_are_counted_and_the_end_is_told() -> None:
    surface = spring(100 * np.eye(3))
    assert not minimise(atom_on(surface, (3.0, 0.0, 0.0)), np.eye(3), 0.01, 4)
    assert len(surface.path) == 5
    assert np.linalg.norm(np.diff(surface.path, axis=0), axis=1).max() <= 0.2 + 1e-12


@pytest.mark.parametrize("smiles", ["CCCOC=O", "CC(C)C=O", "OCC#CC"])
def test_floppy_molecules_end_where_ase_ends(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    floor = TrustRadiusBFGS.softest(0.003)
    hessian = positive_hessian(gfn2_hessian(molecule), molecule.positions, floor)
    ends = []
    for method in ("ours", "ASE's"):
        atoms = molecule.to_atoms()
        atoms.calc = recorder = Recorder(molecule, get_calculator("gfn2-xtb", molecule))
        if method == "ours":
            assert minimise(atoms, hessian, 0.003, 200)
        else:
            optimizer = BFGS(atoms, logfile=None)
            optimizer.H0 = hessian.copy()
            assert optimizer.run(fmax=0.003, steps=200)
        ends.append(recorder.calls)
    assert ends[0][-1].energy == pytest.approx(ends[1][-1].energy, abs=1e-3)
    assert len(ends[0]) <= len(ends[1]) + 3
