"""A level of theory as a value: method, dispersion correction, basis set and solvent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

from diffrelax.errors import InputError
from diffrelax.levels.names import (
    WAVE_FUNCTIONS,
    WITHOUT_BASIS,
    is_common_basis,
    is_composite,
    letters,
    spell_basis,
    spell_method,
    spelt,
    suggest_basis,
    suggest_method,
)

DISPERSION = {  # as Gaussian, ORCA and PySCF write corrections
    "d": "D", "d2": "D2", "gd2": "D2", "d3": "D3", "gd3": "D3(0)", "d3bj": "D3(BJ)",
    "gd3bj": "D3(BJ)", "d3zero": "D3(0)", "d30": "D3(0)", "d3bjm": "D3(BJM)",
    "d3zerom": "D3(0M)", "d3op": "D3(OP)", "d4": "D4", "v": "V", "nl": "NL", "vv10": "VV10",
}  # fmt: skip
WITH_D = {"wb97xd": "wB97X", "b97d": "B97-D"}
FOR_PYSCF = {
    "D3(0)": "d3zero", "D3(0M)": "d3zerom", "mPW1PW91": "mpw1pw", "BPW91": "b88,pw91",
}  # fmt: skip
FIRST = re.compile(r"(?:[ru]o?)?b3lyp/g(?=$|[\s/])|[^\s/]*", re.IGNORECASE)
CORRECTED = re.compile(r"(.+?)[-_ ](g?d[234][^-_/\s]*|nl|v|vv10)", re.IGNORECASE)
CORRECTION = re.compile(r"(?:empiricaldispersion=)?(g?d[234]\S*|nl|vv10)", re.IGNORECASE)
DISSOLVED = re.compile(
    r"(?:c?pcm|smd|alpb|cosmo)\((?P<orca>[^)]+)\)"
    r"|scrf=?\(?(?:[^)]*,)?solvent=(?P<gaussian>[^),]+)[^)]*\)?",
    re.IGNORECASE,
)
KEYWORDS = re.compile(r"!|#[pnt]?|def2/jk?|ri|rijk|rijcosx|(tight)?opt|freq|sp|(tight)?scf", re.I)
COMPOSITE = {  # functional, dispersion and basis set of composite methods
    "r2SCAN-3c": ("r2SCAN", "D4", "def2-mTZVPP"),
    "B97-3c": ("B97-D", "D3(BJ)", "def2-mTZVP"),
    "wB97X-3c": ("wB97X", "D4", "vDZP"),
}


@dataclass(frozen=True)
class Level:
    """A level of theory.

    Attributes
    ----------
    method : str
        Functional or other method as chemists write it, such as ``PBE0`` or ``GFN2-xTB``.
    dispersion : str
        Dispersion correction, such as ``D3(BJ)``; empty if there is none or the method includes it.
    basis : str
        Basis set, such as ``def2-SVP``; empty if the method has none, or includes it.
    solvent : str
        Name of the solvent; empty in the gas phase.
    """

    method: str
    dispersion: str = ""
    basis: str = ""
    solvent: str = ""

    @classmethod
    def parse(cls, text: str | Self, *, strict: bool = True) -> Self:
        """Parse a level in the usual notations.

        Parameters
        ----------
        text : str or Level
            Such as ``B3LYP-D3(BJ)/def2-TZVP``, ``r2scan-3c in water``, ``uM062X/def2TZVP``, the
            keywords of ORCA (``PBE0 D4 def2-SVP CPCM(water)``) or those of Gaussian
            (``PBEPBE/6-31G(d) EmpiricalDispersion=GD3BJ``). A `Level` is returned unchanged.
        strict : bool
            Whether to raise for unknown names and missing basis sets.

        Raises
        ------
        InputError
            If no method is given, or, with `strict`, a name is unknown or a basis set missing or
            superfluous.
        """
        level = _read(text) if isinstance(text, str) else text
        if strict:
            for doubt in level.doubts():
                raise InputError(doubt)
        return cls(level.method, level.dispersion, level.basis, level.solvent)

    @classmethod
    def of(cls, xc: str, basis: str = "", solvent: str = "") -> Level:
        """Build a level from its parts; `xc` may also be a whole level, without other parts.

        Raises
        ------
        InputError
            If `xc` is empty, or names a basis set or solvent other than the one given.
        """
        level = _read(xc)
        given = {"basis": spell_basis(basis), "solvent": solvent}
        for kind, name in given.items():
            if (own := getattr(level, kind)) and name and not _same(own, name):
                raise InputError(f"{xc!r} includes {own}, but {kind} is {name!r}: leave out one")
        return replace(level, **{kind: name for kind, name in given.items() if name})

    @property
    def functional(self) -> str:
        """Method and dispersion, such as ``B3LYP-D3(BJ)``."""
        method = self.method.removesuffix("-D") if self.dispersion else self.method
        return "-".join(filter(None, (method, self.dispersion)))

    @property
    def xc(self) -> str:
        """The functional as PySCF spells it, such as ``b3lyp-d3bj``."""
        method = FOR_PYSCF.get(self.method, self.method.removesuffix("/G"))
        dispersion = FOR_PYSCF.get(self.dispersion, re.sub("[()]", "", self.dispersion))
        return replace(self, method=method, dispersion=dispersion).functional.lower()

    @property
    def composed(self) -> Level:
        """The level with a composite method replaced by its functional, dispersion and basis."""
        if self.method not in COMPOSITE:
            return self
        return Level(*COMPOSITE[self.method], self.solvent)

    def __str__(self) -> str:
        text = "/".join(filter(None, (self.functional, self.basis)))
        return text + (f" in {self.solvent}" if self.solvent else "")

    def differences(self, other: Level) -> tuple[str, ...]:
        """Return the parts that differ, with both values; empty if the levels are the same."""
        one, other = self.composed, other.composed
        methods = {one.method, other.method}
        kind = "functional" if methods.isdisjoint((*WITHOUT_BASIS, *WAVE_FUNCTIONS)) else "method"
        parts = [(kind, one.method, other.method)]
        if methods.isdisjoint(WITHOUT_BASIS):
            parts += [("dispersion", one.dispersion, other.dispersion)]
            parts += [("basis set", one.basis, other.basis)]
        parts += [("solvent", one.solvent, other.solvent)]
        return tuple(
            f"{kind} ({mine or 'none'}, {yours or 'none'})"
            for kind, mine, yours in parts
            if not _same(mine, yours)
        )

    def doubts(self) -> Iterator[str]:
        """Yield what is wrong: unknown names, a missing or superfluous basis set."""
        known = spell_method(self.method) is not None or _is_functional(self.xc)
        if not known:
            yield f"unknown method {self.method!r}{suggest_method(self.method)}"
        if self.basis:
            if self.method in WITHOUT_BASIS or is_composite(self.method):
                yield f"{self.method} includes its basis set: leave out {self.basis}"
            elif not is_common_basis(self.basis) and not _is_basis(self.basis):
                yield f"unknown basis set {self.basis!r}{suggest_basis(self.basis)}"
        elif known and self.method not in WITHOUT_BASIS and not is_composite(self.method):
            yield f"{self.functional} needs a basis set, as in {self.functional}/def2-SVP"


def _same(one: str, other: str) -> bool:
    """Return whether two names are the same; D3 without a damping matches any damping."""
    one, other = letters(one).removesuffix("/g"), letters(other).removesuffix("/g")
    return one == other or ("d3" in (one, other) and one[:2] == other[:2])


@lru_cache(1000)
def _read(text: str) -> Level:
    plain = " ".join(re.sub("[ωΩ]", "w", text).split())
    plain, _, solvent = plain.partition(" in ")
    plain = re.sub(r"^(!|#[pnt]?)\s*|(?<=\s)def2/jk?\b", "", plain.strip(), flags=re.IGNORECASE)
    first = FIRST.match(plain)
    if not first or not first[0]:
        raise InputError(
            f"no level of theory in {text!r}: write a method and a basis set, such as "
            "B3LYP/def2-SVP, or a method alone, such as GFN2-xTB"
        )
    if re.search(r"[*,+]", first[0]):  # a sum of functionals
        method, _, basis = plain.partition("/")
        return Level(method, "", spell_basis(basis), solvent)
    method, dispersion = _split(first[0])
    words: list[str] = []
    for word in re.split(r"[\s/]+", plain[first.end() :]):
        if found := CORRECTION.fullmatch(word):
            dispersion = _correction(found[1])
        elif found := DISSOLVED.fullmatch(word):
            solvent = found["orca"] or found["gaussian"]
        elif not KEYWORDS.fullmatch(word):
            words.append(word)
    basis = spell_basis(" ".join(filter(None, words)))
    if method in COMPOSITE and basis == COMPOSITE[method][2]:
        basis = ""
    return Level(method, dispersion, basis, solvent)


def _split(name: str) -> tuple[str, str]:
    """Split a name such as ``B3LYP-D3(BJ)`` into method and dispersion."""
    if is_composite(name):
        return spelt(name), ""
    plain = letters(name)
    if found := re.fullmatch(r"b97(g?d\d.*)", plain):  # B97-D3 is B97-D with another correction
        return "B97-D", _correction(found[1])
    if plain in WITH_D:
        return WITH_D[plain], "D"
    if method := spell_method(name):
        return method, ""
    if found := CORRECTED.fullmatch(name):
        return spelt(found[1]), _correction(found[2])
    return name, ""


def _correction(name: str) -> str:
    plain = re.sub(r"[-_()]", "", name.lower())
    return DISPERSION.get(plain, plain.upper())


def _is_functional(xc: str) -> bool:
    from diffrelax.levels.functionals import is_functional  # imports PySCF

    return is_functional(xc)


def _is_basis(basis: str) -> bool:
    from diffrelax.levels.basis import check_basis  # imports PySCF

    try:
        check_basis(basis)
    except ValueError:
        return False
    return True
