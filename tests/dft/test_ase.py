"""Any ASE calculator as the level, and our optimizer in an ASE script."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength
from ase.io import read
from ase.io.jsonio import write_json
from ase.optimize import BFGS
from tblite.ase import TBLite

from diffrelax import TRIC, relax_dft
from diffrelax.dft.optimizers import find_optimizer
from diffrelax.molecule import Molecule


def tight_binding(**settings: Any) -> TBLite:
    return TBLite(method="GFN1-xTB", verbosity=0, **settings)


def atoms_of(name: str, calculator: Calculator | None = None) -> Atoms:
    atoms = molecule(name)
    atoms.calc = calculator or tight_binding()
    return atoms


class Failing(Calculator):
    """GFN1-xTB whose third SCF fails."""

    implemented_properties: ClassVar = ["energy", "forces"]
    calls = 0

    def calculate(self, atoms: Atoms, *arguments: Any) -> None:
        super().calculate(atoms, *arguments)
        self.calls += 1
        if self.calls == 3:
            raise ArithmeticError("no SCF")
        exact = tight_binding()
        energy, forces = exact.get_potential_energy(atoms), exact.get_forces(atoms)
        self.results = {"energy": energy, "forces": forces}


class Energies(Calculator):
    implemented_properties: ClassVar = ["energy"]


def test_one_line_of_a_script_changes_and_steps_are_saved(tmp_path: Path) -> None:
    atoms, other = atoms_of("CH3CH2OH"), atoms_of("CH3CH2OH")
    seen: list[float] = []
    optimizer = TRIC(atoms, logfile=tmp_path / "log", trajectory=tmp_path / "steps.traj")
    optimizer.attach(lambda: seen.append(atoms.get_potential_energy()))
    assert optimizer.run(fmax=0.01, steps=50)
    bfgs = BFGS(other, logfile=None)
    assert bfgs.run(fmax=0.01, steps=50)
    assert optimizer.nsteps < bfgs.nsteps / 2
    assert atoms.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=2e-3)
    frames = read(tmp_path / "steps.traj", ":")
    assert len(frames) == len(seen) == optimizer.nsteps + 1
    assert (tmp_path / "log").read_text().count("TRIC:") == len(frames)
    stepwise = list(TRIC(atoms_of("CH3CH2OH"), logfile=None).irun(fmax=0.01))
    assert len(stepwise) == len(frames) and stepwise[-1]


@pytest.mark.parametrize("name", ["tric", "geometric", "bfgs"])
@pytest.mark.parametrize("fixed", [[0], [0, 1], [0, 1, 2], range(9)])
def test_fixed_atoms_stay_where_they_are(name: str, fixed: list[int]) -> None:
    atoms = atoms_of("CH3CH2OH")
    atoms.rattle(0.05, seed=0)
    start = atoms.positions.copy()
    atoms.set_constraint(FixAtoms(fixed))
    assert find_optimizer(name)(atoms, logfile=None).run(fmax=0.02, steps=60)
    np.testing.assert_array_equal(atoms.positions[fixed], start[fixed])


@pytest.mark.parametrize("name", ["tric", "bfgs"])
def test_a_restart_begins_with_the_hessian_of_the_run_before(name: str, tmp_path: Path) -> None:
    kind, restart = find_optimizer(name), tmp_path / "restart.json"
    whole = kind(atoms_of("CH3CH2OH"), logfile=None)
    assert whole.run(fmax=0.001, steps=60)
    atoms = atoms_of("CH3CH2OH")
    first = kind(atoms, restart=restart, logfile=None)
    assert not first.run(fmax=0.001, steps=2)
    second = kind(atoms, restart=restart, logfile=None, hessian="none")
    assert second.run(fmax=0.001, steps=60)
    assert first.nsteps + second.nsteps <= whole.nsteps + 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda atoms: setattr(atoms, "calc", None), "have no calculator: set atoms.calc"),
        (lambda atoms: setattr(atoms, "calc", tight_binding(charge=1)), "has charge 1, the mol"),
        (lambda atoms: atoms.info.update(multiplicity=2), "multiplicity 2 does not fit 10 elec"),
        (lambda atoms: setattr(atoms, "pbc", True), "are periodic, not a molecule: set atoms.pbc"),
        (lambda atoms: atoms.set_constraint(FixBondLength(0, 1)), "cannot hold FixBondLengths"),
        (lambda atoms: setattr(atoms, "calc", Energies()), "Energies has no forces"),
        (lambda atoms: atoms.set_distance(0, 1, 0.01), "O1 and H2 coincide, 0.010 Å"),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_the_first_step(change: Any, message: str) -> None:
    atoms = atoms_of("H2O")
    atoms.info["charge"] = 0
    change(atoms)
    with pytest.raises(ValueError, match=message):
        TRIC(atoms)


@pytest.mark.parametrize(
    ("hessian", "message"),
    [
        ("magic", "unknown level of theory 'magic'"),
        (np.eye(6), r"of 3 atoms is a finite array of shape \(9, 9\), this one has \(6, 6\)"),
        (np.full((9, 9), np.nan), "is a finite array"),
    ],
)
def test_a_hessian_that_does_not_fit_is_refused(hessian: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        TRIC(atoms_of("H2O"), hessian=hessian)
    if isinstance(hessian, np.ndarray):
        restart = tmp_path / "other.json"
        write_json(restart, hessian)
        with pytest.raises(ValueError, match="is it, or the restart file, that of another mol"):
            TRIC(atoms_of("H2O"), restart=restart)


@pytest.mark.parametrize("name", ["CO2", "HCN"])
def test_linear_molecules_converge(name: str) -> None:
    assert TRIC(atoms_of(name), logfile=None).run(fmax=0.01, steps=20)


def test_an_atom_is_at_its_minimum() -> None:
    atoms = Atoms("He", calculator=tight_binding())
    assert TRIC(atoms, logfile=None).run(fmax=0.01)


def test_two_molecules_converge() -> None:
    atoms = atoms_of("H2O")
    other = atoms.copy()
    other.positions += [0, 0.5, 3.0]
    both = atoms + other
    both.calc = tight_binding()
    assert TRIC(both, logfile=None).run(fmax=0.02, steps=60)


def test_what_was_done_before_an_scf_failed_is_there(tmp_path: Path) -> None:
    atoms = atoms_of("CH3CH2OH", Failing())
    optimizer = TRIC(atoms, logfile=None, trajectory=tmp_path / "steps.traj")
    with pytest.raises(ArithmeticError, match="no SCF"):
        optimizer.run(fmax=0.01)
    assert len(read(tmp_path / "steps.traj", ":")) == 2
    assert optimizer.run(fmax=0.01)


def test_a_hessian_that_cannot_be_had_is_logged(tmp_path: Path) -> None:
    atoms = molecule("CH3OH")
    atoms.symbols[0] = "U"
    atoms.calc = EMT()
    optimizer = TRIC(atoms, logfile=tmp_path / "log")
    optimizer.fmax = 0.05
    assert optimizer.start_hessian() is None
    (note,) = optimizer.notes
    assert note.startswith("no gfn2-xtb Hessian, the optimizer's own guess instead: ")
    assert note in (tmp_path / "log").read_text()


def test_an_ase_calculator_takes_the_place_of_pyscf(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    begun = relax_dft("CCO", calculator=tight_binding(), fmax=0.005, max_steps=2, checkpoint=path)
    assert begun.gradient_calls == 3 and not begun.converged
    whole = relax_dft(
        "CCO", calculator=tight_binding(), fmax=0.005, checkpoint=path, check_minimum="dft"
    )
    assert whole.converged and whole.energies[:3] == begun.energies
    assert whole.lowest_frequency is not None and whole.lowest_frequency > 50
    assert whole.scf_cycles is None
    assert whole.notes == ("charge, multiplicity and solvent are set by the ASE calculator",)
    assert whole.settings.described == "tblite by ase"
    other = relax_dft(
        "CCO", calculator=TBLite(method="GFN2-xTB", verbosity=0), max_steps=0, checkpoint=path
    )
    assert other.energies[0] != begun.energies[0]


def test_an_ase_calculator_hears_of_the_charge() -> None:
    ion = Molecule.from_smiles("[NH4+]")
    result = relax_dft(ion, calculator=tight_binding())
    same = relax_dft(ion, calculator=tight_binding(charge=1))
    assert result.converged and result.energy == pytest.approx(same.energy, abs=1e-4)


def test_a_failure_of_an_ase_calculator_is_the_reason() -> None:
    result = relax_dft("CCO", calculator=Failing())
    assert result.reason == "gradient call 3 failed: ArithmeticError: no SCF"
    assert result.gradient_calls == 2


@pytest.mark.parametrize(
    ("given", "calculator", "message"),
    [
        ("O", Energies(), "Energies has no forces"),
        ("O", tight_binding(charge=1), "the calculator has charge 1, the molecule 0"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], constraint=FixAtoms([0])), EMT(),
         r"has constraints \(FixAtoms\), but all atoms would move: .* use .* diffrelax.TRIC"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], pbc=True, cell=[9, 9, 9]), EMT(), "periodic"),
    ],
)  # fmt: skip
def test_mistakes_with_an_ase_calculator_are_named(
    given: Any, calculator: Calculator, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        relax_dft(given, calculator=calculator)
