"""MMFF94 and UFF as ASE calculators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ase
import numpy as np

from diffrelax.errors import InputError
from diffrelax.levels.forces import AtLevel, ForceCalculator
from diffrelax.molecule.force_fields import force_field, hold
from diffrelax.units import KCAL_PER_MOL

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule

HELD = 10.0  # degrees by which a held torsion may change


class ForceField(AtLevel, ForceCalculator):
    """An RDKit force field, built once from the molecule's bonds.

    Parameters
    ----------
    molecule : Molecule
    level : {"mmff94", "uff"}
    charges : bool
        See `diffrelax.molecule.force_fields.force_field`.

    Raises
    ------
    ValueError
        If the bonds are unknown or the force field has no parameters for an atom.
    """

    def __init__(self, molecule: Molecule, level: str, *, charges: bool = True) -> None:
        super().__init__()
        self.level = level
        if molecule.n_atoms > 1 and not molecule.bonds:
            raise InputError(
                f"{level} needs bonds, and those of {molecule.name or molecule.formula} are "
                "unknown: give a SMILES or an .sdf file"
            )
        if molecule.multiplicity > 1:
            raise InputError(
                f"{level} does not support unpaired electrons, and "
                f"{molecule.name or molecule.formula} has some: use another level of theory"
            )
        self._rdkit_molecule = molecule.to_rdkit()  # the force field points into its conformer
        self._charges = charges
        self._field = self._build()
        if self._field is None:
            raise InputError(
                f"{level} has no parameters for {molecule.name or molecule.formula}: "
                "use another level of theory"
            )

    def _build(self) -> Any:
        return force_field(self._rdkit_molecule, self.level, charges=self._charges)

    def evaluate(self) -> tuple[float, np.ndarray]:
        """Evaluate energy and forces."""
        positions = self.atoms.positions
        energy = self.energy(positions)  # first: CalcGrad reuses its distances
        gradient = np.reshape(self._field.CalcGrad(positions.ravel().tolist()), (-1, 3))
        return energy, -gradient * KCAL_PER_MOL

    def energy_of(self, atoms: ase.Atoms) -> float:
        """Evaluate the energy alone, eV."""
        return self.energy(atoms.positions)

    def minimise(
        self, molecule: Molecule, fmax: float, max_steps: int
    ) -> tuple[np.ndarray, int | None]:
        """Relax a geometry with RDKit's minimiser, which has its own convergence criterion."""
        return self.minimise_held(molecule.positions, max_steps), None

    def energy(self, positions: np.ndarray) -> float:
        """Evaluate the energy (eV) at positions, (n_atoms, 3), Å, without ASE's overhead."""
        return self._field.CalcEnergy(positions.ravel().tolist()) * KCAL_PER_MOL

    def minimise_held(
        self, positions: np.ndarray, max_steps: int, held: Sequence[Sequence[int]] = ()
    ) -> np.ndarray:
        """Relax a geometry with RDKit's minimiser.

        Parameters
        ----------
        positions : (n_atoms, 3) array, Å
        max_steps : int
        held : sequence of four int each
            Torsions that may change by no more than 10°.

        Returns
        -------
        (n_atoms, 3) array, Å
            Last geometry, converged or not.
        """
        conformer = self._rdkit_molecule.GetConformer()
        conformer.SetPositions(np.ascontiguousarray(positions))
        field = self._build() if held else self._field  # constraints cannot be removed
        for torsion in held:
            hold(field, self.level, torsion, -HELD, HELD, relative=True)
        field.Minimize(maxIts=max_steps)
        return conformer.GetPositions()


class MMFF94(ForceField):
    """The Merck molecular force field (RDKit), which needs bonds."""

    def __init__(self, molecule: Molecule) -> None:
        super().__init__(molecule, "mmff94")


class UFF(ForceField):
    """The universal force field (RDKit), which needs bonds."""

    def __init__(self, molecule: Molecule) -> None:
        super().__init__(molecule, "uff")
