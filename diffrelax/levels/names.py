"""Spelling of methods and basis sets, without loading PySCF."""

from __future__ import annotations

import re
from difflib import get_close_matches

RELATIVISTIC = re.compile(r"(dkh?\d?|x2c\w*|rcc\w*)$|^(sarc|x2c|ano$)|zora")  # contractions
WITHOUT_BASIS = (
    "MMFF94", "UFF", "GFN-FF", "GFN2-xTB", "AIMNet2", "AM1", "PM3", "PM6", "PM7",
    "r2SCAN-3c", "B97-3c", "wB97X-3c", "PBEh-3c", "HSE-3c", "HF-3c",
)  # fmt: skip
FUNCTIONALS = (
    "SVWN", "BLYP", "BP86", "BPW91", "PBE", "RPBE", "revPBE", "PBEsol", "PW91", "OLYP", "B97-D",
    "TPSS", "revTPSS", "SCAN", "rSCAN", "r2SCAN", "M06-L", "M11-L", "MN12-L", "MN15-L", "B97M",
    "B3LYP", "B3LYP/G", "B3P86", "B3PW91", "X3LYP", "O3LYP", "PBE0", "revPBE0", "BHandHLYP",
    "mPW1PW91", "TPSSh", "TPSS0", "SCAN0", "r2SCANh", "r2SCAN0", "B97", "B97-1", "B97-2", "B1LYP",
    "B1B95", "PW6B95", "M05", "M05-2X", "M06", "M06-2X", "M06-HF", "M08-HX", "M11", "MN15",
    "CAM-B3LYP", "LC-BLYP", "LC-wPBE", "wB97", "wB97X", "wB97M", "HSE03", "HSE06", "CF22D",
    "B2PLYP", "B2GP-PLYP", "PWPB95", "DSD-BLYP", "DSD-PBEP86", "revDSD-PBEP86", "XYG3", "PBE0-DH",
)  # fmt: skip
WAVE_FUNCTIONS = (
    "HF", "MP2", "SCS-MP2", "MP3", "CCSD", "CCSD(T)", "DLPNO-CCSD", "DLPNO-CCSD(T)", "CASSCF",
)  # fmt: skip
OTHER_NAMES = {  # of Gaussian, ORCA and the literature
    "bp": "BP86", "hseh1pbe": "HSE06", "lcwhpbe": "LC-wPBE", "lsda": "SVWN", "mpw1pw": "mPW1PW91",
    "pbe1pbe": "PBE0", "pbepbe": "PBE", "pw91pw91": "PW91", "tpsstpss": "TPSS", "scf": "HF",
    "revtpssrevtpss": "revTPSS", "bhlyp": "BHandHLYP",
}  # fmt: skip
OTHER_BASIS_SETS = (
    "STO-3G", "STO-6G", "MINIS", "MINIX", "LANL2DZ", "SDD", "DZVP", "TZVP", "TZVPP", "QZVP", "SVP",
    "SV(P)", "def2-SV(P)", "vDZP", "DGDZVP", "CBSB7", "EPR-II", "EPR-III", "def2-mTZVP",
    "def2-mTZVPP", "def2-QZVPPD",
)  # fmt: skip
SUGGESTED_BASIS_SETS = (
    *(f"def2-{size}{more}" for size in ("SVP", "TZVP", "TZVPP", "QZVP") for more in ("", "D")),
    *(f"6-31{plus}G{stars}" for plus in ("", "+", "1", "1+") for stars in ("", "*", "**")),
    *(f"{more}cc-pV{size}Z" for size in "DTQ" for more in ("", "aug-")),
    *("pcseg-1", "pcseg-2", "6-31G(2df,p)", *OTHER_BASIS_SETS),
)
POPLE = re.compile(r"(3-?21|4-?31|6-?31|6-?311)(\+*)g(.*)")
POLARISED = re.compile(r"((?:\d?d)?(?:\d?f)?),?((?:\d?p)?(?:\d?d)?)")
DUNNING = re.compile(r"(aug|jul|jun|may)?ccp(wc|c)?v(.*z)(.*)")
KARLSRUHE = re.compile(r"(ma)?def2(m?)(svp|tzvp|qzvp)(p?)(d?)")
JENSEN = re.compile(r"(aug)?pc(seg)?(\d)")


def letters(name: str) -> str:
    """Return a name in lower case, without the -, _ and spaces that PySCF ignores."""
    return re.sub(r"[-_\s]", "", name.lower())


_METHODS = {letters(name): name for name in (*WITHOUT_BASIS, *FUNCTIONALS, *WAVE_FUNCTIONS)}
_BASIS_SETS = {letters(name): name for name in SUGGESTED_BASIS_SETS}


def spell_method(name: str) -> str | None:
    """Return a method as chemists write it; None if it is not a common one.

    The prefixes R, U and RO (kind of orbitals) and RI and DF (fitted integrals) are dropped.
    """
    bare = re.sub(r"(?i)^(ri|rij|rijk|rijcosx|df)-(?=\w)", "", name)
    plain = letters(bare)
    for known in (plain, re.sub("^(ro|r|u)", "", plain)):
        if spelt := OTHER_NAMES.get(known) or _METHODS.get(known):
            return spelt
    return None


def spelt(name: str) -> str:
    """Return a method as chemists write it, and a name that is not a common one unchanged."""
    return spell_method(name) or name


def spell_basis(name: str) -> str:
    """Return a basis set as chemists write it, such as ``6-31G*`` for ``6-31g(d)``."""
    plain = letters(name)
    if found := KARLSRUHE.fullmatch(plain):
        augmented, modified, size, second, diffuse = found.groups(default="")
        family = f"{augmented and 'ma-'}def2-{modified}"
        return family + (size + second + diffuse).upper()
    if found := POPLE.fullmatch(plain):
        core, plus, more = found.groups()
        polarisation = _polarisation(more)
        if polarisation is not None:
            return f"{core[0]}-{core.replace('-', '')[1:]}{plus}G{polarisation}"
    if found := DUNNING.fullmatch(plain):
        augmented, core, size, more = found.groups(default="")
        core = {"wc": "wC", "c": "C", "": ""}[core]
        more = more and f"-{more.upper()}"
        return f"{augmented and augmented + '-'}cc-p{core}V{size.upper()}{more}"
    if found := JENSEN.fullmatch(plain):
        augmented, segmented, size = found.groups(default="")
        return f"{augmented and 'aug-'}pc{segmented}-{size}"
    return _BASIS_SETS.get(plain, name)


def _polarisation(text: str) -> str | None:
    stars = {"": "", "*": "*", "**": "**", "s": "*", "ss": "**", "d": "*", "d,p": "**", "dp": "**"}
    bare = text.removeprefix("(").removesuffix(")")
    if bare in stars:
        return stars[bare]
    found = POLARISED.fullmatch(bare)
    return f"({','.join(filter(None, found.groups()))})" if found else None


def is_common_basis(name: str) -> bool:
    """Return whether a basis set, spelt as by `spell_basis`, belongs to a common family."""
    patterns = (KARLSRUHE, DUNNING, JENSEN)
    plain = letters(name)
    if any(pattern.fullmatch(plain) for pattern in patterns) or plain in _BASIS_SETS:
        return True
    pople = POPLE.fullmatch(plain)
    return bool(pople and _polarisation(pople[3]) is not None)


def suggest_method(name: str) -> str:
    """Return ": did you mean ...?" for an unknown method; empty if no name is similar."""
    plain = letters(name)
    if "xtb" in plain or plain.startswith("gfn"):
        return _did_you_mean(["GFN2-xTB"])
    near = get_close_matches(plain, _METHODS, 2, 0.7)
    return "" if plain in _METHODS else _did_you_mean([_METHODS[one] for one in near])


def suggest_basis(name: str) -> str:
    """Return ": did you mean ...?" for an unknown basis set; empty if no name is similar."""
    near = get_close_matches(letters(name), _BASIS_SETS, 2, 0.7)
    return _did_you_mean([_BASIS_SETS[one] for one in near])


def _did_you_mean(names: list[str]) -> str:
    return f": did you mean {' or '.join(names)}?" if names else ""


def is_relativistic(basis: str) -> bool:
    """Return whether a basis set is, by its name, contracted for relativistic Hamiltonians."""
    return bool(RELATIVISTIC.search(letters(basis)))


def is_composite(xc: str) -> bool:
    """Return whether a name ends in 3c: a composite method, which has its own basis set."""
    return letters(xc).endswith("3c")
