"""Basis sets by their names, as PySCF has them, and molecules that are given one."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from diffrelax.choices import DEFAULT_BASIS
from diffrelax.errors import InputError
from diffrelax.levels.names import is_relativistic, letters, suggest_basis
from diffrelax.levels.pyscf_library import loading_pyscf
from diffrelax.molecule import Molecule

with loading_pyscf():
    from pyscf import gto
    from pyscf.df.addons import make_auxbasis
    from pyscf.df.autoaux import autoaux
    from pyscf.gto.basis import load_ecp, parse_cp2k, parse_nwchem, parse_nwchem_ecp
    from pyscf.lib.exceptions import BasisNotFoundError

    from diffrelax.levels.functionals import Functional
    from diffrelax.levels.pople import is_6_31g_2df_p, shells_6_31g_2df_p

PSEUDOPOTENTIALS = ("ccecp", "bfd", "gth")  # PySCF gives them to no basis set by its name
GUESS = "ano"  # of which PySCF makes the first density
CORES = {"def2mtzvp": "def2-tzvpp", "def2mtzvpp": "def2-tzvpp"}  # nor their potentials to these
KRYPTON = 36
INNERMOST = 0.6  # least share of its 1s energy that a basis set for all electrons gives a nucleus

for parser in (parse_cp2k, parse_nwchem, parse_nwchem_ecp):
    parser.DISABLE_EVAL = True  # or PySCF runs what it cannot read of a basis as Python


def choose_basis(functional: Functional, basis: str = DEFAULT_BASIS) -> str:
    """Return the basis set of a composite method, or the one that is named.

    Raises
    ------
    ValueError
        If another than its own is named for a composite method.
    """
    composite = functional.composite
    if composite is None:
        return basis
    if basis.lower() not in (DEFAULT_BASIS.lower(), composite.basis.lower()):
        raise InputError(
            f"{composite.name} includes a basis set, {composite.basis}: leave {basis!r} "
            "out, or take another functional"
        )
    return composite.basis


def pyscf_molecule(molecule: Molecule, basis: str) -> gto.Mole:
    """Return PySCF's molecule, with a basis set and the effective core potentials it comes with.

    Raises
    ------
    ValueError
        If PySCF has no such basis set, or it lacks an element or the core potential of one.
    """
    _refuse_unfit(basis)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice to install another package
            potentials = _core_potentials(molecule, basis)
            mol = gto.M(
                atom=list(zip(molecule.symbols, molecule.positions.tolist(), strict=True)),
                basis=shells_6_31g_2df_p(molecule.symbols) if is_6_31g_2df_p(basis) else basis,
                ecp=potentials,
                charge=molecule.charge,
                spin=molecule.multiplicity - 1,
                verbose=0,
            )
    except (AssertionError, BasisNotFoundError, FileNotFoundError) as error:
        raise InputError(
            f"basis {basis!r} is unknown or does not cover {molecule.formula}: "
            + " ".join(str(error).split())
            + "; def2-svp covers all elements up to radon"
        ) from error
    if mol.nao == 0:
        raise InputError(f"basis {basis!r} has no functions for {molecule.formula}: use another")
    for symbol in sorted({*molecule.symbols} - {*potentials}):
        if not _reaches_core(symbol, basis):
            raise InputError(
                f"basis {basis!r} leaves the core of {symbol} to a potential that PySCF "
                "lacks, or is not an orbital basis set: use another"
            )
    return mol


@cache
def _reaches_core(symbol: str, basis: str) -> bool:
    """Tell whether a function is as near to the bare nucleus as a 1s orbital, by its energy."""
    number = atomic_numbers[symbol]
    table = shells_6_31g_2df_p([symbol]) if is_6_31g_2df_p(basis) else basis
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        mol = gto.M(atom=symbol, basis=table, spin=number % 2, verbose=0)
    energies = mol.intor("int1e_kin").diagonal() + mol.intor("int1e_nuc").diagonal()
    lowest = (energies / mol.intor("int1e_ovlp").diagonal()).min()
    return bool(lowest < -INNERMOST * number**2 / 2)


def _refuse_unfit(basis: str) -> None:
    """Refuse what PySCF reads as the text of a basis set, and sets that lack their potentials."""
    if letters(_table(basis)).startswith(PSEUDOPOTENTIALS):
        raise InputError(
            f"basis {basis!r} is made for pseudopotentials, which are not supported: use an "
            "all-electron basis or one with effective core potentials, such as def2-svp"
        )
    if is_relativistic(basis.partition("@")[0]):
        raise InputError(
            f"basis {basis!r} is contracted for relativistic Hamiltonians, which are not "
            "supported: use another, such as def2-svp, or uncontract it (unc-)"
        )
    if "\n" in basis:
        raise InputError(f"basis {basis!r} must be the name of a basis set in PySCF")
    check_no_files(basis.partition("@")[0], _table(basis), GUESS)


def check_no_files(*names: str) -> None:
    """Raise ValueError if a basis set has the name of a file, which PySCF would read instead."""
    for name in names:
        if Path(name).is_file():
            raise InputError(
                f"basis {name!r} is also a file in this folder, which PySCF would read "
                "instead: work in another folder, or use a basis set of PySCF"
            )


def _table(basis: str) -> str:
    """Return the name of the table from which PySCF takes a basis, uncontracted or cut or not."""
    name = basis.partition("@")[0]
    return name[3:] if name.lower().startswith("unc") else name


def fitting_functions(mol: Any) -> dict[str, Any]:
    """Choose the functions that products of basis functions are fitted to, by element.

    They are PySCF's where it knows those that are made for the basis set. Beyond krypton these
    leave the core to a potential: for all electrons, and where PySCF would take few even-tempered
    ones, they are made of the basis set (Stoychev, Auer and Neese 2017), or energies are off by up
    to 1,700 eV and bonds by up to 0.3 Å.

    Parameters
    ----------
    mol : pyscf.gto.Mole

    Raises
    ------
    ValueError
        If the name of one is that of a file in the working folder.
    """
    known = make_auxbasis(mol)
    check_no_files(*(functions for functions in known.values() if isinstance(functions, str)))
    unfit = [
        symbol
        for symbol, functions in known.items()
        if not isinstance(functions, str)
        or (gto.charge(symbol) > KRYPTON and symbol not in mol._ecp)
    ]
    if not unfit:
        return known
    try:
        made = autoaux(mol)
    except IndexError:  # a basis set without the shells of an atom
        return known
    return known | {symbol: made[symbol] for symbol in unfit}


def count_functions(numbers: Iterable[int], basis: str) -> int:
    """Count the basis functions of a molecule without its geometry.

    Parameters
    ----------
    numbers : iterable of int
        Atomic numbers.
    basis : str
        See `mean_field`.

    Raises
    ------
    ValueError
        If the basis is unknown, or lacks an element.
    """
    return sum(_functions_of_atom(int(number), basis) for number in numbers)


def check_basis(basis: str) -> None:
    """Find out whether PySCF has a basis set, whatever elements it covers.

    Raises
    ------
    ValueError
        If it has none of that name for any element up to krypton.
    """
    _refuse_unfit(basis)
    for number in range(1, 37) if basis.strip() else ():
        with suppress(ValueError):
            _functions_of_atom(number, basis)
            return
    hint = suggest_basis(basis) or ": use one that PySCF has, such as def2-svp"
    raise InputError(f"unknown basis {basis!r}{hint}")


@cache
def _functions_of_atom(number: int, basis: str) -> int:
    atom = Molecule(np.array([number]), np.zeros((1, 3)), multiplicity=1 + number % 2)
    return pyscf_molecule(atom, basis).nao


def _core_potentials(molecule: Molecule, basis: str) -> dict[str, str]:
    table, covered = _table(basis), {}
    name = CORES.get(letters(table), table)
    for symbol in set(molecule.symbols):
        try:
            if load_ecp(name, symbol):
                covered[symbol] = name
        except (RuntimeError, TypeError):  # PySCF has no core potentials of that name
            continue
    return covered
