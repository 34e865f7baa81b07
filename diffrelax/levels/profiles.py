"""Profiles of external programs: YAML files that name a program and a level of theory."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from operator import not_
from pathlib import Path
from typing import Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from diffrelax.entries import Entries, read_validated
from diffrelax.errors import InputError
from diffrelax.levels.names import is_composite
from diffrelax.levels.program_inputs import LINK0, link0, split_dispersion, split_keyword
from diffrelax.levels.xtb_program import METHODS

Program: TypeAlias = Literal["orca", "gaussian", "nwchem", "qchem", "psi4", "xtb", "ase"]
COMMANDS = {"orca": "orca", "gaussian": "g16", "nwchem": "nwchem", "qchem": "qchem", "xtb": "xtb"}
WITH_SOLVENTS = ("orca", "gaussian", "nwchem", "xtb")
PLAIN = (str, int, float, bool, list, tuple, dict, type(None))
OURS = re.compile(  # keywords set for each molecule or by the relaxation, TightOpt and OptTS too
    r"(?<![\w-])(charge|mult|multiplicity|nopen|jobtype|force|engrad|task"
    r"|(?:verytight|tight|normal|loose|crude|[cz]|l-|gdiis-)?opt(?:ts|h)?)(?![\w-])",
    re.IGNORECASE,
)
OPTIONS_OF_XTB = re.compile(  # the same as options of xtb, which also accepts a single dash
    r"(?<!\S)(--?(?:chrg|charge|uhf|opt|gfn\w*|gff|ptb|grad|[ob]?hess|o?md|mdopt|metadyn|metaopt"
    r"|gmd|siman|path|modef|vip|vea|vipea|vfukui|vomega|alpb|gbsa|cosmo|tmcosmo|cpcmx)"
    r"|-[cuog])(?![\w-])"
)


class Profile(Entries):
    """A program and a level of theory, in the keywords of the program.

    Parameters
    ----------
    program : {"orca", "gaussian", "nwchem", "qchem", "psi4", "xtb", "ase"}
        ``"ase"`` describes an ASE calculator, see `describe_calculator`.
    command : str
        Command that starts it, with the name or full path of the program. It is split into words
        as in a shell, but run without one. Default: the usual name of the program. Psi4 is a Python
        module and has none.
    method : str
        Functional or other method.
    basis : str
        Basis set; empty for methods that include one.
    solvent : str
        Name of a solvent in the program's continuum model. Empty: the gas phase.
    keywords : tuple of str
        Lines for the input; for xtb, command-line options.
    """

    program: Program
    command: str = ""
    method: str = Field(min_length=1)
    basis: str = ""
    solvent: str = Field(default="", exclude_if=not_)
    keywords: tuple[str, ...] = Field(default=(), exclude_if=not_)

    @field_validator("method", "basis", "solvent", "command")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if not text.isprintable():
            raise InputError("give one line")
        return " ".join(text.split())

    @field_validator("command")
    @classmethod
    def _words(cls, command: str) -> str:
        program, *_ = shlex.split(command) or [""]  # ValueError if a quote is not closed
        if "/" in program and not program.startswith("/"):
            raise InputError(f"{program}: give the full path of the program, starting with /")
        return command

    @model_validator(mode="after")
    def _of_the_level(self) -> Self:
        if self.program == "ase":
            return self
        ours = OPTIONS_OF_XTB if self.program == "xtb" else OURS
        for line in (*self.keywords, self.method, self.basis):
            if found := ours.search(line):
                raise InputError(f"{found[0]} is set for each molecule: leave {line!r} out")
        return self

    @model_validator(mode="after")
    def _fits_the_program(self) -> Self:
        program = self.program
        if program == "ase":
            return self
        if self.solvent and program not in WITH_SOLVENTS:
            raise InputError(f"{program} does not support solvent here")
        if program == "psi4" and self.command:
            raise InputError("psi4 is a Python module: leave out command")
        if program in ("gaussian", "nwchem") and is_composite(self.method):
            raise InputError(f"{program} has no {self.method}")
        if program in ("nwchem", "psi4") and not self.basis:
            raise InputError(f"{program} needs a basis")
        if program in ("qchem", "psi4") and not all(
            split_keyword(line)[1] for line in self.keywords
        ):
            raise InputError(f"keywords of {program} are a name and a value: SCF_CONVERGENCE 8")
        split_dispersion(self)
        for line in self.keywords if program == "gaussian" else ():
            if line.startswith("%") and link0(line)[0] not in LINK0:
                raise InputError(f"{line!r} is not supported: use one of {', '.join(LINK0)}")
        if program == "xtb" and (self.method not in METHODS or self.basis):
            raise InputError(f"xtb supports the methods {', '.join(METHODS)}, without a basis")
        return self

    @property
    def words(self) -> list[str]:
        """The command, word by word."""
        return shlex.split(self.command or COMMANDS[self.program])


def describe_calculator(calculator: object) -> Profile:
    """Describe an ASE calculator by its class and parameters, which identify stored results."""
    kind = type(calculator)
    parameters: Mapping[str, object] = getattr(calculator, "parameters", {})
    # values without a short text, such as other objects, are described by their class
    values = {
        name: value if isinstance(value, PLAIN) else type(value).__name__
        for name, value in sorted(parameters.items())
    }
    keywords = (f"{kind.__module__}.{kind.__qualname__}", *(f"{k}={v}" for k, v in values.items()))
    return Profile(program="ase", method=kind.__name__, keywords=keywords)


def read_profile(path: Path) -> Profile:
    """Read a profile; nothing in the file can run Python code.

    Raises
    ------
    ValueError
        If the file is missing, is not YAML, or has an unknown or invalid entry.
    """
    return read_validated(path, Profile, "profile of a program", "program: orca")
