"""Keywords of Gaussian, NWChem and ORCA for levels of theory.

NWChem's keywords reproduce the energies of PySCF's functionals for water (NWChem 7.2.3, 3-21G);
those of Gaussian and ORCA are from their manuals.
"""

from __future__ import annotations

from diffrelax.choices import Target
from diffrelax.errors import InputError
from diffrelax.levels.level import Level
from diffrelax.levels.profiles import Profile

SAME = {  # keywords that are the usual names
    "gaussian": (
        "SVWN", "BLYP", "BP86", "BPW91", "OLYP", "B3LYP", "B3P86", "B3PW91", "X3LYP", "O3LYP",
        "BHandHLYP", "mPW1PW91", "TPSSh", "B1LYP", "B1B95", "M05", "M06", "M11", "MN15",
        "CAM-B3LYP", "LC-BLYP", "wB97", "wB97X", "B2PLYP", "PW6B95",
    ),
    "nwchem": ("B3LYP", "PBE0", "B3PW91", "SCAN", "r2SCAN", "M05", "M05-2X", "M06", "M06-L",
        "M06-2X", "M06-HF", "M08-HX", "M11", "M11-L", "PW6B95", "wB97", "wB97X",
    ),
    "orca": (
        "BLYP", "BP86", "PBE", "RPBE", "revPBE", "PW91", "OLYP", "TPSS", "revTPSS", "rSCAN",
        "r2SCAN", "B97M-V", "B3LYP", "B3LYP/G", "B3P86", "B3PW91", "X3LYP", "O3LYP", "PBE0",
        "revPBE0", "BHandHLYP", "TPSSh", "TPSS0", "r2SCANh", "r2SCAN0", "B1LYP", "PW6B95", "M06",
        "CAM-B3LYP", "LC-BLYP", "wB97", "wB97X", "wB97X-V", "wB97X-D4", "wB97M-V", "wB97M-D4",
        "HSE06", "B2PLYP", "B2GP-PLYP", "PWPB95", "DSD-BLYP", "DSD-PBEP86", "B97-D", "r2SCAN-3c",
        "B97-3c", "wB97X-3c", "PBEh-3c", "HF-3c",
    ),
}  # fmt: skip
OTHER = {
    "gaussian": {
        "PBE": "PBEPBE", "PBE0": "PBE1PBE", "PW91": "PW91PW91", "TPSS": "TPSSTPSS",
        "HSE03": "OHSE2PBE", "HSE06": "HSEH1PBE", "LC-wPBE": "LC-wHPBE", "B97-1": "B971",
        "B97-2": "B972", "M05-2X": "M052X", "M06-L": "M06L", "M06-2X": "M062X", "M06-HF": "M06HF",
        "M08-HX": "M08HX", "M11-L": "M11L", "MN12-L": "MN12L", "MN15-L": "MN15L",
        "B3LYP/G": "B3LYP", "B97-D": "B97D", "B97-D3(BJ)": "B97D3", "wB97X-D": "wB97XD",
        "revTPSS": "RevTPSSRevTPSS",
    },
    "nwchem": {
        "PBE": "xpbe96 cpbe96", "BP86": "becke88 perdew86", "BLYP": "becke88 lyp",
        "SVWN": "slater vwn_5", "RPBE": "rpbe cpbe96", "revPBE": "revpbe cpbe96",
        "PW91": "xperdew91 perdew91", "OLYP": "optx lyp", "TPSS": "xtpss03 ctpss03",
        "TPSSh": "xctpssh", "BHandHLYP": "bhlyp", "B97-1": "becke97-1", "B97-2": "becke97-2",
        "B3LYP/G": "b3lyp",
    },
    "orca": {
        "SVWN": "LSD", "SCAN": "SCANfunc", "M06-L": "M06L", "M06-2X": "M062X",
        "mPW1PW91": "mPW1PW", "B97-D3(BJ)": "B97-D3", "B97M-D3(BJ)": "B97M-D3BJ",
        "wB97X-D3(0)": "wB97X-D3", "wB97X-D3(BJ)": "wB97X-D3BJ", "wB97M-D3": "wB97M-D3BJ",
        "wB97M-D3(BJ)": "wB97M-D3BJ",
    },
}  # fmt: skip
CORRECTIONS = {"D3(BJ)": "d3bj", "D3(0)": "d3zero", "D4": "d4"}  # see split_dispersion
AS_WRITTEN = ("HF", "MP2")


def profile_of(level: Level, program: Target, keywords: tuple[str, ...] = ()) -> Profile:
    """Return the profile of a program for a level of theory.

    A name that is not known to be a keyword of the program is used unchanged, see `doubts`.

    Raises
    ------
    InputError
        If the damping of D3 is not specified, or the dispersion correction is not supported.
    """
    method = _word(level.functional, program)
    if method is None:
        method = _word(level.method, program) or level.method
        if level.dispersion:
            method += f"-{_correction(level)}"
    basis = level.basis
    if program == "gaussian":
        basis = basis.replace("def2-", "def2")
    return Profile(
        program=program, method=method, basis=basis, solvent=level.solvent, keywords=keywords
    )


def doubts(level: Level, program: Target) -> list[str]:
    """Return messages on names of a level that may be unknown to a program, with suggestions."""
    found = list(level.doubts())
    if not found and not (_word(level.functional, program) or _word(level.method, program)):
        found = [f"{level.functional} is not known to be a keyword of {program}"]
    return found


def resources(program: Target, processors: int | None, memory: float | None) -> tuple[str, ...]:
    """Return input lines that request processors and memory.

    NWChem's input has no number of processors: it is given to ``mpirun``.

    Parameters
    ----------
    program : {"orca", "gaussian", "nwchem"}
    processors : int, optional
    memory : float, optional, GB
        Total of all processors.
    """
    each = memory and int(1000 * memory / (processors or 1))  # MB
    lines = {
        "orca": (
            processors and f"%pal nprocs {processors} end",
            each and f"%maxcore {each * 3 // 4}",  # ORCA may exceed it by a third
        ),
        "gaussian": (
            processors and f"%nprocshared={processors}",
            memory and f"%mem={1000 * memory:.0f}MB",
        ),
        "nwchem": (each and f"memory total {each} mb",),
    }
    return tuple(line for line in lines[program] if line)


def _word(name: str, program: Target) -> str | None:
    if name in SAME[program] or name in AS_WRITTEN:
        return name
    return OTHER[program].get(name)


def _correction(level: Level) -> str:
    if level.dispersion == "D3":
        name = level.method
        raise InputError(
            f"{name}-D3 does not specify the damping: write {name}-D3(BJ), or {name}-D3(0) "
            "for zero damping"
        )
    if level.dispersion not in CORRECTIONS:
        raise InputError(
            f"{level.functional} is not supported for this program: use D3(BJ), D3(0) or D4"
        )
    return CORRECTIONS[level.dispersion]
