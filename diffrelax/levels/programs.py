"""External programs as levels of theory, through ASE's calculators."""

from __future__ import annotations

import os
import re
import shutil
import signal
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator, SCFError, all_changes

from diffrelax.errors import InputError
from diffrelax.extras import NotInstalledError
from diffrelax.levels import program_inputs as inputs
from diffrelax.levels.forces import ForceCalculator
from diffrelax.levels.running import run_program
from diffrelax.levels.xtb_program import XTBProgram

if TYPE_CHECKING:
    import ase

    from diffrelax.levels.profiles import Profile
    from diffrelax.molecule import Molecule

OLD_RESULTS = ("orca.engrad", "qchem.out")  # removed, so that no old results are read
TROUBLE = re.compile(
    r"\berror\b|\bfail|not converge|\bunknown\b|unrecognized|illegal", re.IGNORECASE
)
LONGEST_COMPLAINT = 300
CALCULATORS: dict[str, tuple[str, Callable[[Profile, Molecule], inputs.Parameters]]] = {
    # class in ASE's module with the name of the program, and its parameters
    "orca": ("ORCA", inputs.orca_parameters),
    "gaussian": ("Gaussian", inputs.gaussian_parameters),
    "nwchem": ("NWChem", inputs.nwchem_parameters),
    "qchem": ("QChem", inputs.qchem_parameters),
    "psi4": ("Psi4", inputs.psi4_parameters),
}


class ProgramCalculator(ForceCalculator):
    """ASE calculator of one molecule by an external program.

    If the calculation is interrupted, the running program and its child processes are ended.

    Parameters
    ----------
    molecule : Molecule
        Its charge and multiplicity are used.
    profile : Profile
    folder : path
        Folder for the files of the program. Use one for each molecule: some programs start from
        the orbitals that they find there.

    Raises
    ------
    ValueError
        If the program is not installed or does not have the method.
    ase.calculators.calculator.CalculationFailed
        If the program fails, or gives no energy or forces.
    """

    state = None  # nothing is kept for a restart

    def __init__(self, molecule: Molecule, profile: Profile, folder: Path) -> None:
        super().__init__()
        check_program(profile)
        self._name, self._from_orbitals = profile.program, inputs.from_orbitals(profile)
        self._folder = folder
        self._calculator = _calculator(molecule, profile, folder)

    def evaluate(self) -> tuple[float, np.ndarray]:
        """Evaluate energy and forces, or raise CalculationFailed."""
        for name in OLD_RESULTS:
            (self._folder / name).unlink(missing_ok=True)
        wanted = self.implemented_properties
        self._calculator.results = {}  # ASE's Q-Chem would keep old ones
        try:
            with redirect_stdout(StringIO()), warnings.catch_warnings(action="ignore"):
                self._calculator.calculate(self.atoms, wanted, all_changes)
            energy, forces = (self._calculator.results[name] for name in wanted)
            if not np.isfinite(energy):
                raise SCFError
            self._calculator.parameters.update(self._from_orbitals)
            return energy, np.reshape(forces, (len(self.atoms), 3))
        except SCFError as error:
            raise CalculationFailed(f"the SCF of {self._name} did not converge") from error
        except CalculationFailed:
            raise
        except Exception as error:  # ASE's readers raise errors of any kind
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                raise  # such as a full disk
            raise CalculationFailed(
                f"{self._name} gave no energy and forces that ASE can read: {error}"
            ) from error

    def hessian(self, atoms: ase.Atoms) -> np.ndarray:
        """Raise NotImplementedError: second derivatives of programs are not read."""
        raise NotImplementedError


def check_program(profile: Profile) -> None:
    """Raise NotInstalledError if the program of a profile is not installed."""
    if profile.program == "ase":
        raise InputError(
            f"{profile.method} is an ASE calculator: pass the object, relax_dft(calculator=...)"
        )
    if profile.program == "psi4":
        if not find_spec("psi4"):
            raise NotInstalledError("psi4 is not installed in this Python: conda install psi4")
    elif shutil.which(profile.words[0]) is None:
        raise NotInstalledError(
            f"the program {profile.words[0]!r} for {profile.program} was not found: give "
            "its path as command in the profile"
        )


def _calculator(molecule: Molecule, profile: Profile, folder: Path) -> Calculator:
    program = profile.program
    if program == "xtb":
        solvent = ("--alpb", profile.solvent) if profile.solvent else ()
        options = [word for line in profile.keywords for word in line.split()]
        return XTBProgram(molecule, profile.method, profile.words, (*solvent, *options), folder)
    place: dict[str, Any] = {"label": str(folder / program)}
    if program == "orca":
        place = {"directory": folder}
    if program != "psi4":
        place["profile"] = _Child(profile)
    name, parameters = CALCULATORS[program]
    make = getattr(import_module(f"ase.calculators.{program}"), name)
    calculator = make(**place, **parameters(profile, molecule))
    if program == "psi4":
        calculator.psi4.set_options(inputs.psi4_options(profile))
    return calculator


class _Child:
    """Runs a program for ASE's calculators, without a shell, in place of ASE's own profiles."""

    def __init__(self, profile: Profile) -> None:
        self._name = profile.program
        first, *others = profile.words
        self._words = [os.path.abspath(shutil.which(first) or first), *others]
        self.command = ""  # ASE's Q-Chem sets it

    def execute(self, calculator: Any) -> None:
        """Run the program of a calculator that ASE derives from ``FileIOCalculator``."""
        rules = calculator.fileio_rules
        if rules is None:  # Q-Chem
            self._run(
                calculator.directory, [f"{calculator.prefix}.inp", f"{calculator.prefix}.out"]
            )
            return
        arguments = [word.format(prefix=calculator.prefix) for word in rules.extend_argv]
        stdin = rules.stdin_name and rules.stdin_name.format(prefix=calculator.prefix)
        stdout = rules.stdout_name.format(prefix=calculator.prefix)
        self._run(calculator.directory, arguments, stdin, stdout)

    def run(self, directory: Path, inputfile: str, outputfile: str, errorfile: str) -> None:
        """Run the program of a calculator that ASE derives from ``GenericFileIOCalculator``."""
        self._run(directory, [inputfile], None, outputfile)

    def _run(
        self,
        directory: str | Path,
        arguments: list[str],
        stdin: str | None = None,
        stdout: str = "stdout",
    ) -> None:
        folder = Path(directory)
        status = run_program([*self._words, *arguments], folder, stdin=stdin, stdout=stdout)
        if status:
            how = f"ended with status {status}" if status > 0 else signal.Signals(-status).name
            raise CalculationFailed(f"{self._name} failed ({how}): {_complaint(folder, stdout)}")


def _complaint(folder: Path, stdout: str) -> str:
    """Return the error messages of a program, or else its last lines."""
    texts = [(folder / name).read_text("utf-8", "replace") for name in (stdout, "stderr")]
    lines = [" ".join(line.split()) for text in texts for line in text.splitlines()[-80:]]
    said = [line for line in lines if line.strip("-= ")]
    trouble = list(dict.fromkeys(line for line in said if TROUBLE.search(line)))
    return "; ".join(trouble[-3:] or said[-2:])[:LONGEST_COMPLAINT] or "it did not say why"
