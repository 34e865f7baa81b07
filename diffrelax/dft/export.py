"""Optimisation inputs for other programs, with a start Hessian."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
from ase.io.gaussian import write_gaussian_in
from ase.io.nwchem import write_nwchem_in
from ase.io.orca import write_orca
from ase.units import Bohr, Hartree

from diffrelax.atomic import write_text
from diffrelax.levels.profiles import Profile
from diffrelax.levels.program_inputs import (
    gaussian_parameters,
    nwchem_parameters,
    orca_parameters,
)
from diffrelax.molecule import Molecule

COLUMNS = 5  # of a block of ORCA's Hessian
LONGEST_STEM = 60
ASE_TITLE = "Gaussian input prepared by ASE"

Files = dict[str, str]  # name: text


def write_input(
    molecule: Molecule, folder: Path, stem: str, profile: Profile, hessian: np.ndarray | None
) -> list[Path]:
    """Write the input of an optimisation, and the Hessian in the format of the program.

    Parameters
    ----------
    molecule : Molecule
    folder : path
    stem : str
        File name without suffix, see `safe_stem`.
    profile : Profile
        Profile of ORCA, Gaussian or NWChem; its command is not used.
    hessian : (3 n_atoms, 3 n_atoms) array, eV/Å², or None
        Symmetric. None: the program guesses one.

    Returns
    -------
    list of path
        The input file comes first.
    """
    atomic_units = None if hessian is None else hessian * Bohr**2 / Hartree
    files = WRITERS[profile.program](molecule, stem, profile, atomic_units)
    paths = [folder / name for name in files]
    for path, text in reversed(list(zip(paths, files.values(), strict=True))):
        write_text(path, text)
    return paths


def safe_stem(name: str, taken: set[str]) -> str:
    """Return a file name for a molecule, and add it to the names in use.

    Parameters
    ----------
    name : str
        Any text, such as a SMILES.
    taken : set of str
        Names in use, in lower case, since some file systems ignore case.
    """
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:LONGEST_STEM] or "molecule"
    stem, n = plain, 1
    while stem.lower() in taken:
        n += 1
        stem = f"{plain}_{n}"
    taken.add(stem.lower())
    return stem


def _orca(molecule: Molecule, stem: str, profile: Profile, hessian: np.ndarray | None) -> Files:
    read = ("%geom", "  InHess Read", f'  InHessName "{stem}.hess"', "end")
    text = StringIO()
    parameters = orca_parameters(profile, molecule, "Opt", () if hessian is None else read)
    write_orca(text, molecule.to_atoms(), parameters)
    files = {f"{stem}.inp": text.getvalue()}
    return files if hessian is None else files | {f"{stem}.hess": _orca_hess(molecule, hessian)}


def _orca_hess(molecule: Molecule, hessian: np.ndarray) -> str:
    """Return the two sections of ORCA's .hess file that an optimisation reads, in atomic units."""
    size = len(hessian)
    lines = ["", "$orca_hessian_file", "", "$hessian", f"{size}"]
    for first in range(0, size, COLUMNS):
        columns = range(first, min(first + COLUMNS, size))
        lines.append(" " * 5 + "".join(f"{column:19d}" for column in columns))
        for i, row in enumerate(hessian[:, columns]):
            lines.append(f"{i:5d}" + "".join(f"{value:19.10E}" for value in row))
    lines += ["", "$atoms", f"{molecule.n_atoms}"]
    for mass, symbol, place in zip(
        molecule.masses, molecule.symbols, molecule.positions / Bohr, strict=True
    ):
        atom = f" {symbol:2s} {mass:11.5f} "
        lines.append(atom + "".join(f"{x:19.12f}" for x in place))
    return "\n".join([*lines, "", "$end", ""])


def _gaussian(molecule: Molecule, stem: str, profile: Profile, hessian: np.ndarray | None) -> Files:
    text = StringIO()
    parameters = gaussian_parameters(profile, molecule)
    parameters["opt"] = None if hessian is None else "fccards"
    write_gaussian_in(text, molecule.to_atoms(), properties=["energy"], **parameters)
    parts = [text.getvalue().rstrip().replace(ASE_TITLE, _title(molecule), 1)]
    if hessian is not None:
        parts.append(_force_constants(hessian))  # after one empty line, no more
    return {f"{stem}.gjf": "\n\n".join([*parts, "", ""])}


def _title(molecule: Molecule) -> str:
    """Return name and formula of a molecule, without characters that Gaussian forbids in titles."""
    name = re.sub(r"[^A-Za-z0-9()=+., ]+", " ", molecule.name or "")[:LONGEST_STEM].strip()
    return ", ".join(filter(None, (name, molecule.formula)))


def _force_constants(hessian: np.ndarray) -> str:
    """Return the input of Opt=FCCards: energy and forces, which are not used, and Hessian."""

    def rows(values: np.ndarray) -> list[str]:
        blocks = np.split(values, range(6, len(values), 6))
        return ["".join(f"{value:12.8f}" for value in block) for block in blocks]

    triangle = hessian[np.tril_indices(len(hessian))]  # ((F(i, j), j = 1, i), i = 1, n)
    energy = f"{0.0:24.16E}".replace("E", "D")
    return "\n".join([energy, *rows(np.zeros(len(hessian))), *rows(triangle)])


def _nwchem(molecule: Molecule, stem: str, profile: Profile, hessian: np.ndarray | None) -> Files:
    read = () if hessian is None else ("driver\n  inhess 2\nend",)
    parameters = nwchem_parameters(profile, molecule, read)
    text = StringIO()
    write_nwchem_in(
        text, molecule.to_atoms(), label=stem, task="optimize", autoz=True, **parameters
    )
    # files go where NWChem is started, not where ASE is
    lines = [line for line in text.getvalue().splitlines() if "_dir " not in line]
    files = {f"{stem}.nw": "\n".join([*lines, ""])}
    if hessian is None:
        return files
    triangle = hessian[np.tril_indices(len(hessian))]
    values = "".join(f"{value:20.10E}\n" for value in triangle)
    return files | {f"{stem}.hess": values.replace("E", "D")}


WRITERS: dict[str, Callable[[Molecule, str, Profile, np.ndarray | None], Files]] = {
    "orca": _orca,
    "gaussian": _gaussian,
    "nwchem": _nwchem,
}
