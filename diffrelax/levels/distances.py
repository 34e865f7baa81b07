"""Which of some levels of theory is nearest to another: by measured distances, or by kind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import permutations
from math import erf, inf
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("distances.json")  # analysis/level_distances.py
ALIASES = dict.fromkeys(
    ("aimnet2", "wb97m-d3bj/def2-tzvpp", "wb97m-d3(bj)/def2-tzvpp"), "wB97M-D3/def2-TZVPP"
)
COMPOSITE = {"r2scan3c": "r2scan/def2mtzvpp", "b973c": "b97d/def2mtzvp", "wb97x3c": "wb97x/vdzp"}
FEWEST = 10  # molecules
CORRECTION = re.compile(  # of dispersion: it hardly moves bonds
    r"d[34](\(?(bjm?|zerom?|0|op)\)?)?(atm)?$"
)
BOND = 2.0  # bohr


class Distance(NamedTuple):
    """How far the minima of one level of theory are from those of another, medians.

    Attributes
    ----------
    level, other : str
    molecules : int
    bonds, angles : float, Å
        Mean over the bonds, and over the 1–3 distances, of a molecule.
    energy : float, optional, kcal/mol
        Of the minimum of ``level`` above the one at ``other``, at ``other``.
    """

    level: str
    other: str
    molecules: int
    bonds: float
    angles: float
    energy: float | None = None


class Nearest(NamedTuple):
    """The level of theory that is nearest to a wanted one, and why.

    Attributes
    ----------
    level : str
    why : str
        Empty if it is the same, or if no other is known.
    by_name : bool
        Whether the name of the wanted one told which is near.
    """

    level: str
    why: str
    by_name: bool = True

    def told(self, model: str, wanted: str) -> str:
        """Say at which level a model aims where another one is wanted."""
        if not self.why:
            return f"{model} aims at {self.level}"
        return (
            f"{model} aims at {self.level}, of what it has learned the nearest to {wanted}: "
            f"{self.why}"
        )


def plain_name(level: str) -> str:
    """Return the name of a level of theory without case, spaces and hyphens, and with w for ω."""
    spelled = "".join(level.split()).casefold().replace("ω", "w")
    return ALIASES.get(spelled, spelled).casefold().replace("-", "")


def find_level(wanted: str, known: Iterable[str]) -> str | None:
    """Return the level of theory that is meant, as it is spelled among known ones; None if not.

    A composite method may be told with its basis set.
    """
    meant = _bare(wanted)
    return next((one for one in known if meant in (_bare(one), _bare(_whole(one)))), None)


def _bare(level: str) -> str:
    return re.sub(r"[^a-z0-9*+]", "", plain_name(level))


def _whole(level: str) -> str:
    basis = COMPOSITE.get(plain_name(level), "").partition("/")[2]
    return f"{level}/{basis}"


@cache
def measured() -> tuple[Distance, ...]:
    """Return the distances that have been measured."""
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["distances"]
    return tuple(Distance(**row) for row in rows)


def nearest_level(wanted: str, known: Sequence[str]) -> Nearest:
    """Choose among known levels of theory the one whose minima are nearest to those of another.

    The same level; else the one with the least distance in bonds, measured on ten molecules or
    more; else, by rule, the same functional or the one most alike in exact exchange, then a basis
    set of the same size; else the first.

    Parameters
    ----------
    wanted : str
        Such as ``gfn2-xtb`` or ``pbe/def2-svp in water``, of which the solvent does not count
        where no known level has it.
    known : sequence of str
        At least one.
    """
    theory, _, solvent = wanted.partition(" in ")
    name = plain_name(theory)
    by_name = {plain_name(level): level for level in known}
    same = find_level(wanted, known) or find_level(theory, known)
    if len(known) == 1:
        same = known[0]
    if same:
        return Nearest(same, "")
    found = [
        (row.bonds, by_name[other], row.molecules)
        for other, row in _measured_from(name).items()
        if other in by_name
    ]
    if found:
        bonds, level, n = min(found)
        why = f"bonds {1e3 * bonds:.1f} mÅ from those of {theory}, measured on {n} molecules"
        return Nearest(level, f"{why} in the gas phase" if solvent else why)
    ranks = [_apart(name, plain_name(level)) for level in known]
    least = min(ranks)
    if least.exchange == inf:
        return Nearest(known[0], f"nothing is known of how far it is from {wanted}", by_name=False)
    xc = (
        "the functional most alike in exact exchange" if least.functional else "the same functional"
    )
    basis = "another size of" if least.sizes else "the same size of" if least.basis else "the same"
    why = f"{xc} and {basis} basis set, by rule and not measured"
    return Nearest(known[ranks.index(least)], why)


def from_gfn2(level: str) -> float:
    """Return how far bonds are from those of GFN2-xTB's minima, Å, medians.

    Of a level that was not measured, those of the nearest one that was.
    """
    far = _measured_from(plain_name("GFN2-xTB"))
    return far[nearest_level(level, list(far)).level].bonds


def _measured_from(name: str) -> dict[str, Distance]:
    """Return what was measured on enough molecules between a level and others, by plain names."""
    return {
        other: row
        for row in measured()
        for one, other in permutations(map(plain_name, (row.level, row.other)))
        if one == name and row.molecules >= FEWEST
    }


class _Apart(NamedTuple):
    """How far apart two levels are by rule, what moves minima most first."""

    functional: bool  # whether it differs
    exchange: float  # by what share of exact exchange
    sizes: int  # of the basis sets
    rung: bool  # whether it differs
    basis: bool  # whether its name differs


def _apart(one: str, other: str) -> _Apart:
    (xc, basis), (other_xc, other_basis) = map(_parts, (one, other))
    exchange, another_rung = 0.0, False
    if xc != other_xc:
        kind, other_kind = _kind(xc), _kind(other_xc)
        exchange = inf
        if kind and other_kind:
            exchange = round(abs(kind[0] - other_kind[0]), 2)
            another_rung = kind[1] != other_kind[1]
    sizes = abs(_size(basis) - _size(other_basis))
    return _Apart(xc != other_xc, exchange, sizes, another_rung, basis != other_basis)


def _parts(name: str) -> tuple[str, str]:
    """Return functional, without its dispersion correction, and basis set."""
    xc, slash, basis = COMPOSITE.get(name, name).rpartition("/")
    if not slash:
        xc, basis = basis, ""
    xc = xc.removesuffix("/g")  # b3lyp/g is ORCA's, of Gaussian
    xc = re.sub("^b97(?=d[34])", "b97d", xc)  # B97-D3 is B97-D with D3
    return CORRECTION.sub("", xc), basis


@cache
def _kind(xc: str) -> tuple[float, str] | None:
    """Return the share of exact exchange at the length of a bond, and the rung, if known."""
    from diffrelax.levels.functionals import libxc  # takes a second

    for name in (xc, f"{xc}_v"):
        try:
            omega, far, difference = libxc.rsh_coeff(name)
            near = far + difference
            return near + (far - near) * erf(omega * BOND), str(libxc.xc_type(name))
        except (KeyError, ValueError, NotImplementedError):
            continue
    return None


def _size(basis: str) -> int:
    """Return the number of functions for a valence orbital; two sets that polarise are one more."""
    patterns = {1: "sto|minao", 4: "qz|5z|6z|^pc(seg)?3", 3: r"tz|6311|\([23]d|^pc(seg)?2"}
    return next((n for n, pattern in patterns.items() if re.search(pattern, basis)), 2)
