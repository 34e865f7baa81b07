"""Choice of the nearest of several levels of theory, by measured distances or by rule."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import permutations
from math import erf, inf
from pathlib import Path
from re import search
from typing import NamedTuple

from diffrelax.levels.level import Level

TABLE = Path(__file__).with_name("distances.json")  # analysis/level_distances.py
AIMNET2 = "wB97M-D3/def2-TZVPP"  # level of its training data
FEWEST = 10  # molecules
BOND = 2.0  # bohr
FAR = 0.5  # weight of exact exchange at long range, relative to that at bond length
DOUBLE_HYBRIDS = {  # fractions of exact exchange, which libxc lacks
    "B2PLYP": 0.53, "B2GP-PLYP": 0.65, "PWPB95": 0.5, "DSD-PBEP86": 0.7, "revDSD-PBEP86": 0.69,
}  # fmt: skip


class Distance(NamedTuple):
    """Differences between the minima of two levels of theory, medians over molecules.

    Attributes
    ----------
    level, other : str
    molecules : int
    bonds, angles : float, Å
        Mean difference of the bonds, and of the 1–3 distances, of a molecule.
    energy : float, optional, kcal/mol
        Energy at ``other`` of the minimum of ``level``, relative to the minimum of ``other``.
    """

    level: str
    other: str
    molecules: int
    bonds: float
    angles: float
    energy: float | None = None


class Nearest(NamedTuple):
    """The level that a model has learned that is nearest to a requested level.

    Attributes
    ----------
    asked : Level
    level : str
        Nearest learned level, as the model spells it.
    differences : tuple of str
        Differences, such as ``"dispersion (D4, none)"``; empty if it is the same level.
    why : str
        Reason for the choice; empty if it is the same level.
    """

    asked: Level
    level: str
    differences: tuple[str, ...] = ()
    why: str = ""

    def described(self, model: str) -> str:
        """Describe the level that a model relaxes to, and how the requested level differs."""
        if not self.differences:
            return f"{model} relaxes to minima of {self.level}"
        *most, last = self.differences
        what = f"{', '.join(most)} and {last}" if most else last
        return (
            f"{model} has not learned {self.asked}: it relaxes to minima of {self.level}, "
            f"{self.why}; they differ in {what}"
        )


def find_level(level: str | Level, known: Iterable[str]) -> str | None:
    """Return a level in the spelling of the known levels; None if it is not one of them."""
    asked = Level.parse(level, strict=False)
    return next((one for one in known if not _differences(asked, one)), None)


@cache
def measured() -> tuple[Distance, ...]:
    """Return all measured distances."""
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["distances"]
    return tuple(Distance(**row) for row in rows)


def nearest_level(level: str | Level, known: Sequence[str]) -> Nearest:
    """Choose the known level whose minima are nearest to those of another level.

    In this order: the only level, or the same level; the same level in the gas phase; the level
    with the smallest bond distance, measured on at least ten molecules; by rule, the level with the
    same functional or the most similar exact exchange, then a basis set of similar size; the first.

    Parameters
    ----------
    level : str or Level
        Text is parsed by `Level.parse`.
    known : sequence of str
        At least one level.

    Raises
    ------
    InputError
        If the text names no method, or is not a known level and contains an unknown name.
    """
    asked = Level.parse(level, strict=False)
    if same := find_level(asked, known):
        return Nearest(asked, same)
    if isinstance(level, str):
        asked = Level.parse(level)
    chosen, why = _choose(asked, known)
    return Nearest(asked, chosen, _differences(asked, chosen), why)


def _choose(asked: Level, known: Sequence[str]) -> tuple[str, str]:
    gas = Level(asked.method, asked.dispersion, asked.basis)
    if len(known) == 1:
        return known[0], "its only level"
    if same := find_level(gas, known):
        return same, "the same level in the gas phase"
    found = [
        (row.bonds, one, row.molecules)
        for one in known
        if (row := _measured_between(gas, one)) and row.molecules >= FEWEST
    ]
    if found:
        bonds, one, n = min(found)
        where = " in the gas phase" if asked.solvent else ""
        why = f"bonds differ by {1e3 * bonds:.1f} mÅ, measured on {n} molecules{where}"
        return one, f"the nearest ({why})"
    ranks = [_apart(asked, one) for one in known]
    least = min(ranks)
    if least.exchange == inf:
        return known[0], "its own level, because their difference is unknown"
    return known[ranks.index(least)], "the nearest by rule (not measured)"


def from_gfn2(level: str) -> float:
    """Return the median difference of bonds between a level and GFN2-xTB, Å.

    For a level that was not measured, the nearest measured level is used.
    """
    gfn2 = Level("GFN2-xTB")
    far = {
        other: row.bonds
        for row in measured()
        for one, other in permutations((row.level, row.other))
        if row.molecules >= FEWEST and not _differences(gfn2, one)
    }
    return far[nearest_level(Level.parse(level, strict=False), list(far)).level]


def _meant(level: str | Level) -> Level:
    """Return a level, with AIMNet2 replaced by the level of its training data."""
    read = Level.parse(level, strict=False)
    return Level.parse(AIMNET2) if read.method == "AIMNet2" else read


def _differences(one: str | Level, other: str | Level) -> tuple[str, ...]:
    return _meant(one).differences(_meant(other))


def _measured_between(one: Level, other: str) -> Distance | None:
    for row in measured():
        for first, second in permutations((row.level, row.other)):
            if not _differences(one, first) and not _differences(other, second):
                return row
    return None


class _Apart(NamedTuple):
    """Differences between two levels by rule, those with the largest effect on minima first."""

    functional: bool  # whether it differs
    exchange: float  # difference in exact exchange
    sizes: int  # difference in the size of the basis sets
    rung: bool  # whether it differs
    basis: bool  # whether its name differs
    solvent: bool  # whether it differs


def _apart(asked: Level, known: str) -> _Apart:
    one, other = (_meant(level).composed for level in (asked, known))
    exchange, another_rung = 0.0, False
    if one.method != other.method:
        kind, other_kind = _kind(one.method), _kind(other.method)
        exchange = inf
        if kind and other_kind:
            near, far = abs(kind.near - other_kind.near), abs(kind.far - other_kind.far)
            exchange = round(near + FAR * far, 2)
            another_rung = kind.rung != other_kind.rung
    sizes = abs(_size(one.basis) - _size(other.basis))
    return _Apart(
        one.method != other.method, exchange, sizes, another_rung, one.basis != other.basis,
        one.solvent != other.solvent,
    )  # fmt: skip


class _Kind(NamedTuple):
    near: float  # fraction of exact exchange at bond length
    far: float  # fraction of exact exchange at long range
    rung: str


@cache
def _kind(method: str) -> _Kind | None:
    """Return the kind of a functional; None if it is unknown."""
    from diffrelax.levels.functionals import libxc  # takes a second

    if method in DOUBLE_HYBRIDS:
        return _Kind(DOUBLE_HYBRIDS[method], DOUBLE_HYBRIDS[method], "GGA")
    xc = Level(method).xc.replace("-", "_")
    for name in (xc, f"{xc}_v", f"gga_xc_{xc}"):
        try:
            omega, far, difference = libxc.rsh_coeff(name)
            near = far + difference
            at_bond = near + (far - near) * erf(omega * BOND)
            return _Kind(at_bond, far, str(libxc.xc_type(name)))
        except (KeyError, ValueError, NotImplementedError):
            continue
    return None


def _size(basis: str) -> int:
    """Return the zeta number of a basis set, one more with two sets of polarisation functions."""
    patterns = {1: "STO|MIN", 4: "QZ|5Z|6Z|pc(seg)?-3", 3: r"TZ|6-311|\([23]d|pc(seg)?-2"}
    return next((n for n, pattern in patterns.items() if search(pattern, basis)), 2)
