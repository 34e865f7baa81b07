"""GFN-FF and GFN2-xTB through the program xtb, with its own optimiser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

import ase
import ase.io
import numpy as np
from ase.calculators.calculator import CalculationFailed
from ase.units import Bohr, Hartree
from scipy.spatial.transform import Rotation

from diffrelax.errors import InputError
from diffrelax.extras import NotInstalledError
from diffrelax.levels.forces import AtLevel, ForceCalculator
from diffrelax.levels.running import run_program

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule

HEAVIEST = 86  # radon
METHODS = {"gfn-ff": ("--gfnff",), "gfn2-xtb": ("--gfn", "2")}
# gradient norms in Eh/Bohr at which `xtb --opt` stops; the force on each atom is at most the norm
STOPPING_NORMS = {"tight": 8e-4, "verytight": 2e-4, "extreme": 5e-5}
LONGEST_RUN = 3600.0  # s; a relaxation of 200 atoms takes minutes
# xtb 6.7.1 returns wrong forces if atoms share a coordinate, as in a planar molecule at z = 0
# (https://github.com/grimme-lab/xtb/issues/986)
TURN = Rotation.from_rotvec([0.4, -0.7, 1.1])
PREFIX = "diffrelax-xtb-"
FORGOTTEN = 24 * LONGEST_RUN  # s since the last change in a folder


class XTBProgram(AtLevel, ForceCalculator):
    """The program xtb, run in its own folder and on one thread.

    GFN-FF derives its topology from the geometry of the first calculation.

    Parameters
    ----------
    molecule : Molecule
        Its charge and multiplicity are used.
    method : {"gfn-ff", "gfn2-xtb"}
    command : sequence of str
        Command that starts the program, word by word.
    options : sequence of str
        Further options of the program.
    folder : path, optional
        Folder for its files. Default: a temporary folder, removed with the calculator; if the
        process is killed, a later process removes it after a day.

    Raises
    ------
    ValueError
        If the program is not installed, or there is an element beyond Rn.
    ase.calculators.calculator.CalculationFailed
        If a calculation fails.
    """

    def __init__(
        self,
        molecule: Molecule,
        method: str,
        command: Sequence[str] = ("xtb",),
        options: Sequence[str] = (),
        folder: Path | None = None,
    ) -> None:
        super().__init__()
        check_heaviest(molecule, method)
        unpaired = molecule.multiplicity - 1
        system = ("--chrg", str(molecule.charge), "--uhf", str(unpaired))
        program = (find_program(method, command[0]), *command[1:])
        self._command = (*program, "start.xyz", *METHODS[method], *system, *options)
        if folder is None:
            sweep_folders()
            self._temporary = TemporaryDirectory(prefix=PREFIX)
            folder = Path(self._temporary.name)
        self._folder = folder

    def evaluate(self) -> tuple[float, np.ndarray]:
        """Evaluate energy and forces."""
        energy, *gradient = _numbers(self._run(self.atoms, "start.engrad", "--grad"))
        forces = -np.reshape(gradient, (-1, 3)) * Hartree / Bohr
        return energy * Hartree, TURN.apply(forces, inverse=True)

    def minimise(self, molecule: Molecule, fmax: float, max_steps: int) -> tuple[np.ndarray, int]:
        """Relax a geometry with the optimiser of the program.

        The criterion is the loosest of xtb's that ensures `fmax`, or else its tightest.
        """
        atoms = molecule.to_atoms()
        if len(atoms) == 1:
            return atoms.positions, 1
        norm = fmax * Bohr / Hartree
        criterion = next((c for c, limit in STOPPING_NORMS.items() if limit <= norm), "extreme")
        path = self._run(atoms, "xtbopt.log", "--opt", criterion, "--cycles", str(max_steps))
        try:
            frames = ase.io.read(path, ":", format="xyz")
        except (IndexError, ValueError) as error:  # xtb was killed while writing
            raise CalculationFailed("xtb wrote an incomplete geometry") from error
        if not frames:
            raise CalculationFailed("xtb wrote no geometry")
        return TURN.apply(frames[-1].positions, inverse=True), len(frames) + 1  # and the last call

    def _run(self, atoms: ase.Atoms, output: str, *task: str) -> Path:
        """Run the program on a geometry and return the path of its output file."""
        folder = self._folder
        path = folder / output
        path.unlink(missing_ok=True)
        turned = ase.Atoms(atoms.numbers, TURN.apply(atoms.positions))
        ase.io.write(folder / "start.xyz", turned, format="xyz", fmt="%.12f", comment="")
        try:
            status = run_program(
                [*self._command, *task],
                folder,
                environment={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                seconds=LONGEST_RUN,
            )
        except subprocess.TimeoutExpired:
            raise CalculationFailed(f"xtb was stopped after {LONGEST_RUN:g} s") from None
        if not path.exists():
            raise CalculationFailed(f"xtb failed: {_complaint(folder, status)}")
        return path


class GFNFF(XTBProgram):
    """GFN-FF, the force field of the GFN family for H to Rn, by the program xtb."""

    def __init__(self, molecule: Molecule) -> None:
        super().__init__(molecule, "gfn-ff")

    @classmethod
    def check_installed(cls) -> None:
        """Raise NotInstalledError if the program xtb is not installed."""
        find_program("gfn-ff")


@cache
def sweep_folders() -> None:
    """Remove the temporary folders that killed processes left behind, once per process."""
    for folder in Path(gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or already removed
            if time.time() - folder.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(folder)


def check_heaviest(molecule: Molecule, method: str) -> None:
    """Raise ValueError if there is an element beyond Rn."""
    if molecule.numbers.max() > HEAVIEST:
        raise InputError(
            f"{method} has no parameters for {molecule.formula}, which covers H to Rn: use "
            "another level of theory"
        )


def find_program(method: str, name: str = "xtb") -> str:
    """Return the path of the program xtb, or raise NotInstalledError."""
    program = shutil.which(name)
    if program is None:
        raise NotInstalledError(
            f"{method} needs the program xtb, which is not on the PATH: "
            "apt-get install xtb, or conda install -c conda-forge xtb"
        )
    return os.path.abspath(program)


def _numbers(engrad: Path) -> list[float]:
    """Read energy (Eh) and gradient (Eh/Bohr) from a file in ORCA's engrad format."""
    lines = engrad.read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if not line.startswith("#")]
    n_atoms = int(values[0])
    return [float(value) for value in values[1 : 2 + 3 * n_atoms]]


def _complaint(folder: Path, status: int) -> str:
    """Return the error message of the program, or else how it ended."""
    texts = [(folder / name).read_text("utf-8", "replace") for name in ("stdout", "stderr")]
    trace = re.findall(r"^-\d+- (.*)$", "".join(texts), re.MULTILINE)
    causes = [line for line in trace if not line.endswith("terminated")]
    if causes:
        return "; ".join(causes)
    if status < 0:
        return f"killed by {signal.Signals(-status).name}: more stack may help (ulimit -s)"
    return f"it ended with status {status} without saying why"
