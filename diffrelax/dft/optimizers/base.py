"""Base class of the optimizers: molecule, start Hessian and fixed atoms."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, ClassVar

import ase
import numpy as np
from ase.constraints import FixAtoms
from ase.optimize.optimize import Optimizer

from diffrelax.dft.cheap_hessian import hessian_at
from diffrelax.dft.hessian import positive_hessian
from diffrelax.errors import InputError
from diffrelax.levels.calculators import check_cheap
from diffrelax.molecule import Molecule
from diffrelax.molecule.annotations import charge_of, read_annotations

FIXED = 70.0  # eV/Å²; curvature of fixed atoms


class HessianOptimizer(Optimizer):
    """An ASE optimizer of a molecule that starts from a Hessian of a cheap level.

    Parameters
    ----------
    atoms : ase.Atoms
        Not periodic, with a calculator of energies and forces; moved in place.
    restart, logfile, trajectory, append_trajectory
        See `ase.optimize.optimize.Optimizer`. The restart file holds the Hessian.
    hessian : str or (3 n_atoms, 3 n_atoms) array, eV/Å²
        Start Hessian or its level; ``"none"`` is the guess of the optimizer. It is calculated
        before the first step, and made positive definite if necessary.
    charge, multiplicity : int, optional
        Used for the Hessian. Default: those of ``atoms.info`` or of the parameters of the
        calculator, otherwise as in `Molecule.from_atoms`.
    **settings
        Settings of the ASE optimizer.

    Attributes
    ----------
    notes : tuple of str
        Whether another start Hessian is used; also in the log.

    Raises
    ------
    ValueError
        If there is no calculator, or one without forces; if the atoms are periodic, too close, or
        have unsupported constraints; if charge and multiplicity do not fit the number of electrons
        or the calculator; if the Hessian or the restart file is for other atoms; or if its level is
        unknown.
    """

    newton: ClassVar[bool] = False  # the first step is a Newton step, unless it is long
    same_path: ClassVar[bool] = False  # the steps do not depend on fmax
    holds: ClassVar[tuple[type, ...]] = (FixAtoms,)  # constraints

    def __init__(
        self,
        atoms: ase.Atoms,
        restart: str | Path | None = None,
        logfile: IO[str] | str | Path | None = "-",
        trajectory: Any = None,
        append_trajectory: bool = False,
        *,
        hessian: str | np.ndarray = "gfn2-xtb",
        charge: int | None = None,
        multiplicity: int | None = None,
        **settings: Any,
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self.hessian = _checked(hessian, len(atoms))
        self.molecule = _molecule_of(atoms, charge, multiplicity)
        for constraint in atoms.constraints:
            if not isinstance(constraint, self.holds):
                held = " and ".join(kind.__name__ for kind in self.holds) or "no constraints"
                raise InputError(
                    f"{type(self).__name__} cannot hold {type(constraint).__name__}, only "
                    f"{held}: remove it, or use another optimizer"
                )
        super().__init__(
            atoms=atoms,
            restart=restart,
            logfile=logfile,
            trajectory=trajectory,
            append_trajectory=append_trajectory,
            **settings,
        )

    @classmethod
    def softest(cls, fmax: float) -> float:
        """Return the smallest curvature of the start Hessian, eV/Å², for a limit of forces."""
        return 1.0

    @classmethod
    def criterion(cls, fmax: float) -> str:
        """Describe the stopping criterion."""
        return f"largest force on an atom < {fmax:g} eV/Å"

    def read(self) -> None:
        """Read the Hessian of the restart file."""
        self.initialize()
        self.hessian = _checked(np.array(self.load()), len(self.atoms))

    def start_hessian(self) -> np.ndarray | None:
        """Return the start Hessian, positive definite; None if there is none.

        Returns
        -------
        (3 n_atoms, 3 n_atoms) array, eV/Å², or None
            Fixed atoms are decoupled from the others.
        """
        hessian: np.ndarray | None
        if isinstance(self.hessian, np.ndarray):
            hessian = self.hessian
        else:
            molecule = self.molecule.with_positions(self.atoms.positions)
            hessian, self.notes = hessian_at(molecule, self.hessian)
            for note in self.notes if self.logfile else ():
                self.logfile.write(f"{type(self).__name__}: {note}\n")
        if hessian is None:
            return None
        floor, positive = self.softest(self.fmax), hessian.copy()
        if np.linalg.eigvalsh(hessian)[0] < floor * (1 - 1e-6):
            positive = positive_hessian(hessian, self.atoms.positions, floor)
        fixed = np.repeat(3 * self.fixed_atoms, 3) + np.tile(range(3), len(self.fixed_atoms))
        positive[fixed] = positive[:, fixed] = 0
        positive[fixed, fixed] = FIXED
        return positive

    @property
    def fixed_atoms(self) -> np.ndarray:
        """Indices of the fixed atoms."""
        found = [constraint.get_indices() for constraint in self.atoms.constraints]
        return np.unique(np.concatenate(found)) if found else np.empty(0, int)


def _checked(hessian: str | np.ndarray, n_atoms: int) -> str | np.ndarray:
    """Return a Hessian of the right shape, or the name of a cheap level."""
    if isinstance(hessian, str):
        if hessian != "none":
            check_cheap(hessian)
    elif hessian.shape != (size := (3 * n_atoms, 3 * n_atoms)) or not np.isfinite(hessian).all():
        raise InputError(
            f"a Hessian of {n_atoms} atoms is a finite array of shape {size}, this one has "
            f"{hessian.shape}: is it, or the restart file, that of another molecule?"
        )
    return hessian


def _molecule_of(atoms: ase.Atoms, charge: int | None, multiplicity: int | None) -> Molecule:
    """Check atoms and calculator, and return the molecule of the Hessian."""
    if atoms.calc is None:
        raise InputError("these atoms have no calculator: set atoms.calc first")
    if any(atoms.pbc):
        raise InputError("these atoms are periodic, not a molecule: set atoms.pbc = False")
    check_forces(atoms.calc)
    own = _state_of(atoms.calc)
    if charge_of(atoms, charge) is None:
        charge = own["charge"]
    described = read_annotations(atoms, charge, multiplicity)
    if multiplicity is None and "multiplicity" not in atoms.info:
        multiplicity = own["multiplicity"]
    state = (described.charge, multiplicity or described.multiplicity)
    check_same_state(*state, atoms.calc)
    return Molecule(atoms.numbers, atoms.positions, *state)


def check_forces(calculator: Any) -> None:
    """Raise ValueError if an ASE calculator has no forces."""
    if "forces" not in getattr(calculator, "implemented_properties", ("forces",)):
        raise InputError(
            f"the calculator {type(calculator).__name__} has no forces: use another one"
        )


def check_same_state(charge: int, multiplicity: int, calculator: Any) -> None:
    """Raise ValueError if an ASE calculator is set to another charge or multiplicity."""
    own = _state_of(calculator)
    for name, ours in (("charge", charge), ("multiplicity", multiplicity)):
        if own[name] is not None and own[name] != ours:
            raise InputError(
                f"the calculator has {name} {own[name]}, the molecule {ours}: they must agree"
            )


def _state_of(calculator: Any) -> dict[str, int | None]:
    """Return charge and multiplicity of an ASE calculator from its parameters, None if unknown."""
    parameters = getattr(calculator, "parameters", {})
    found = {
        "charge": parameters.get("charge"),
        "multiplicity": parameters.get("multiplicity", parameters.get("mult")),
    }
    return {
        name: int(value) if isinstance(value, int | float) else None
        for name, value in found.items()
    }
