"""PySCF's basis sets by name, and PySCF's molecules with a basis set."""

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

PSEUDOPOTENTIALS = ("ccecp", "bfd", "gth")  # PySCF does not add them by the name of the basis set
GUESS = "ano"  # basis set of PySCF's initial density
CORES = {"def2mtzvp": "def2-tzvpp", "def2mtzvpp": "def2-tzvpp"}  # nor the potentials of these
KRYPTON = 36
INNERMOST = 0.6  # fraction of the bare nucleus's 1s energy that an all-electron basis set reaches

for parser in (parse_cp2k, parse_nwchem, parse_nwchem_ecp):
    parser.DISABLE_EVAL = True  # PySCF would run unreadable parts of a basis as Python


def choose_basis(functional: Functional, basis: str = DEFAULT_BASIS) -> str:
    """Return the basis set of a composite method, or the given one for other functionals.

    Raises
    ------
    ValueError
        If a basis set is given that is not that of the composite method.
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
    """Return PySCF's molecule, with a basis set and its effective core potentials.

    Raises
    ------
    ValueError
        If PySCF lacks the basis set, one of the elements in it, or the core potential of one.
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
    """Return whether a basis set describes the 1s orbital of the bare nucleus, by the energy."""
    number = atomic_numbers[symbol]
    table = shells_6_31g_2df_p([symbol]) if is_6_31g_2df_p(basis) else basis
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        mol = gto.M(atom=symbol, basis=table, spin=number % 2, verbose=0)
    energies = mol.intor("int1e_kin").diagonal() + mol.intor("int1e_nuc").diagonal()
    lowest = (energies / mol.intor("int1e_ovlp").diagonal()).min()
    return bool(lowest < -INNERMOST * number**2 / 2)


def _refuse_unfit(basis: str) -> None:
    """Raise InputError for unsupported kinds of basis sets, text of basis sets and file names."""
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
    """Raise InputError if a basis set has the name of a file, which PySCF would read instead."""
    for name in names:
        if Path(name).is_file():
            raise InputError(
                f"basis {name!r} is also a file in this folder, which PySCF would read "
                "instead: work in another folder, or use a basis set of PySCF"
            )


def _table(basis: str) -> str:
    """Return the name of PySCF's table of a basis, without ``unc-`` and ``@``."""
    name = basis.partition("@")[0]
    return name[3:] if name.lower().startswith("unc") else name


def fitting_functions(mol: Any) -> dict[str, Any]:
    """Return the auxiliary functions for density fitting, by element.

    These are PySCF's, if it has a set made for the basis set. Such sets assume a core potential
    beyond krypton. For all-electron basis sets there, and where PySCF would use a few even-tempered
    functions, they are generated from the basis set (Stoychev, Auer and Neese 2017); the energies
    and bonds would be wrong otherwise.

    Parameters
    ----------
    mol : pyscf.gto.Mole

    Raises
    ------
    ValueError
        If the working folder has a file with the name of a set.
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
    """Return the number of basis functions of a molecule, without its geometry.

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
    """Check that PySCF has a basis set, whatever elements it covers.

    Raises
    ------
    ValueError
        If PySCF has no basis set of that name for any element up to krypton.
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
