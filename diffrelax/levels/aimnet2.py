"""AIMNet2, a neural network potential, as an ASE calculator."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import ase
import numpy as np
import torch
from ase.data import chemical_symbols

from diffrelax.errors import InputError
from diffrelax.extras import NotInstalledError
from diffrelax.levels.differences import hessian_by_differences
from diffrelax.levels.forces import AtLevel, ForceCalculator
from diffrelax.levels.side_by_side import Evaluate

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule

WEIGHTS = "models/aimnet2_wb97m-d3_0.jpt"
SHA256 = "a6d366b05c5997668f24a834584b4033d0cab67d13d2f8caf143b965018d3735"
STEP = 0.01  # Å
PAIRS_IN_BATCH = 10_000  # bounds memory
ELEMENTS = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53)


class AIMNet2(AtLevel, ForceCalculator):
    """AIMNet2 (Anstine et al. 2025, doi 10.1039/D4SC08572H), trained on ωB97M-D3/def2-TZVPP.

    One network of the ensemble, run on the CPU. The weights are read from the installed package
    AcAuto3D, which is not imported. They are a TorchScript program, so the file is loaded only if
    its checksum is that of the published file.

    Parameters
    ----------
    molecule : Molecule
        Its charge is used.

    Raises
    ------
    ValueError
        If the weights are not installed or not the published ones, or if the molecule has unpaired
        electrons or an element that AIMNet2 was not trained on.
    """

    stands_for: ClassVar[str] = "wB97M-D3/def2-TZVPP"

    def __init__(self, molecule: Molecule) -> None:
        super().__init__()
        self.check_molecule(molecule)
        self._charge = molecule.charge
        _load(find_weights())

    @classmethod
    def check_installed(cls) -> None:
        """Raise InputError if the weights are missing or not the published ones."""
        _load(find_weights())

    @classmethod
    def check_molecule(cls, molecule: Molecule) -> None:
        """Raise ValueError if AIMNet2 was not trained on molecules like this one."""
        foreign = sorted({chemical_symbols[z] for z in molecule.numbers if z not in ELEMENTS})
        if foreign:
            raise InputError(f"aimnet2 was not trained on {', '.join(foreign)}: use another level")
        if molecule.multiplicity != 1:
            raise InputError(
                f"aimnet2 was trained on closed shells, and {molecule.name or molecule.formula} "
                f"has multiplicity {molecule.multiplicity}: use another level of theory"
            )

    @classmethod
    def for_many(cls) -> Evaluate:
        """Return the function that evaluates many molecules in one call."""
        return evaluate

    def evaluate(self) -> tuple[float, np.ndarray]:
        """Evaluate energy and forces."""
        energies, forces = self._evaluate(self.atoms.numbers, self.atoms.positions[None])
        return float(energies[0]), forces[0]

    def hessian(self, atoms: ase.Atoms) -> np.ndarray:
        """Evaluate second derivatives of the energy by central differences of the forces.

        Returns
        -------
        (3 n_atoms, 3 n_atoms) array, eV/Å²
            Symmetric.
        """
        size = max(1, PAIRS_IN_BATCH // len(atoms) ** 2)

        def forces(shifts: np.ndarray) -> np.ndarray:
            batches = np.split(atoms.positions + shifts, range(size, len(shifts), size))
            return np.concatenate([self._evaluate(atoms.numbers, batch)[1] for batch in batches])

        return hessian_by_differences(forces, len(atoms), STEP)

    def _evaluate(
        self, numbers: np.ndarray, geometries: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return energies, (n,), and forces, (n, n_atoms, 3), of geometries, (n, n_atoms, 3)."""
        repeated = np.broadcast_to(numbers, (len(geometries), len(numbers)))
        return _evaluate(repeated, geometries, np.full(len(geometries), self._charge))


def evaluate(
    molecules: Sequence[Molecule], geometries: Sequence[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Evaluate one geometry of each of several molecules in one call.

    Parameters
    ----------
    molecules : sequence of Molecule
    geometries : sequence of (n_atoms, 3) array, Å

    Returns
    -------
    energies : (n_molecules,) array, eV
    forces : list of (n_atoms, 3) array, eV/Å
    """
    sizes = [molecule.n_atoms for molecule in molecules]
    numbers = np.zeros((len(sizes), max(sizes)), dtype=np.int64)
    positions = np.zeros((*numbers.shape, 3))
    for i, (molecule, geometry) in enumerate(zip(molecules, geometries, strict=True)):
        numbers[i, : sizes[i]], positions[i, : sizes[i]] = molecule.numbers, geometry
    energies, forces = _evaluate(numbers, positions, np.array([m.charge for m in molecules]))
    return energies, [rows[:size] for rows, size in zip(forces, sizes, strict=True)]


def _evaluate(
    numbers: np.ndarray, positions: np.ndarray, charges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Run the network on (n, n_atoms) atomic numbers, padded with 0, and their positions."""
    coordinates = torch.tensor(positions, dtype=torch.float32, requires_grad=True)
    batch = {
        "coord": coordinates,
        "numbers": torch.tensor(numbers),
        "charge": torch.tensor(charges, dtype=torch.float32),
    }
    with torch.enable_grad():
        energies = _load(find_weights())(batch)["energy"]
        (gradients,) = torch.autograd.grad(energies.sum(), coordinates)
    return energies.detach().numpy(), -gradients.numpy().astype(np.float64)


def find_weights() -> Path:
    """Return the path of the weights, or raise NotInstalledError."""
    spec = find_spec("Auto3D")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / WEIGHTS).is_file():
            return path
    raise NotInstalledError(
        'the weights of aimnet2 are missing: pip install --force-reinstall "AcAuto3D==1.0.1"'
    )


@cache
def _load(path: Path) -> torch.jit.ScriptModule:
    """Load the network if its file is the published one."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise InputError(
            f"{path} is not the published file: its sha256 is {found}, expected {SHA256}. "
            'Reinstall it: pip install --force-reinstall "AcAuto3D==1.0.1"'
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated")
        network = torch.jit.load(BytesIO(content), map_location="cpu").eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)  # only forces are needed
    return network
