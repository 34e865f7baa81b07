"""Parameters of ASE's input writers for a molecule and a level of theory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ase.data import chemical_symbols

from diffrelax.errors import InputError
from diffrelax.levels.names import is_relativistic

if TYPE_CHECKING:
    from diffrelax.levels.profiles import Profile
    from diffrelax.molecule import Molecule

Parameters = dict[str, Any]
LINK0 = (  # Gaussian's commands, as ASE writes them; %nproc is an older name of nprocshared
    *("mem", "nprocshared", "cpu", "gpucpu", "lindaworkers", "usessh", "ssh", "debuglinda"),
    *("chk", "oldchk", "schk", "rwf", "oldmatrix", "oldrawmatrix", "int", "d2e"),
    *("save", "nosave", "errorsave"),
)
DISPERSION = {  # keywords of programs for corrections as in b3lyp-d3bj
    "orca": {"d3bj": "D3BJ", "d3zero": "D3ZERO", "d4": "D4"},
    "gaussian": {"d3bj": "EmpiricalDispersion=GD3BJ", "d3zero": "EmpiricalDispersion=GD3"},
    "nwchem": {"d3bj": "vdw 4", "d3zero": "vdw 3"},
}
ASE_OPTIONS = ("memory", "num_threads")  # options that ASE passes to Psi4
CORE_POTENTIALS = {  # prefix of basis sets: library of potentials, last element without one
    "def2": ("def2-ecp", 36),
    "lanl2dz_ecp": ("lanl2dz_ecp", 10),
}
OTHER_CORES = re.compile(
    r"ecp|-pp(_|$)|^dhf|lanl|stuttgart|sbkjc|crenb|sdb", re.IGNORECASE
)  # basis sets that need other potentials
NWCHEM_THEORIES = {"hf": "scf", "scf": "scf", "mp2": "mp2"}  # all else is a functional


def orca_parameters(
    profile: Profile, molecule: Molecule, task: str = "EnGrad", blocks: Sequence[str] = ()
) -> Parameters:
    """Return the parameters of ``ase.io.orca.write_orca``; solvents use C-PCM."""
    solvent = f"CPCM({profile.solvent})" if profile.solvent else ""
    method, correction = split_dispersion(profile)
    return {
        "charge": molecule.charge,
        "mult": molecule.multiplicity,
        "orcasimpleinput": " ".join(
            filter(None, (method, correction, profile.basis, solvent, task))
        ),
        "orcablocks": "\n".join((*profile.keywords, *blocks)),
    }


def gaussian_parameters(profile: Profile, molecule: Molecule) -> Parameters:
    """Return the parameters of ``ase.io.gaussian.write_gaussian_in``; solvents use IEF-PCM.

    Keywords that begin with % go before the route, the others into it. Symmetry is off, so that
    forces are in the orientation of the input.
    """
    before = [link0(line) for line in profile.keywords if line.startswith("%")]
    others = [line for line in profile.keywords if not line.startswith("%")]
    method, correction = split_dispersion(profile)
    return {
        **dict(before),
        "xc": method,
        "basis": profile.basis or None,
        "charge": molecule.charge,
        "mult": molecule.multiplicity,
        "extra": " ".join(filter(None, (correction, *others))) or None,
        "nosymm": None,
        **({"scrf": f"solvent={profile.solvent}"} if profile.solvent else {}),
    }


def link0(line: str) -> tuple[str, str]:
    """Split a line such as ``%mem=4GB`` into name and value."""
    name, _, value = (part.strip() for part in line[1:].partition("="))
    return {"nproc": "nprocshared"}.get(name.lower(), name.lower()), value


def nwchem_parameters(
    profile: Profile, molecule: Molecule, lines: Sequence[str] = ()
) -> Parameters:
    """Return the parameters of ``ase.io.nwchem.write_nwchem_in``.

    Basis sets have spherical functions, open shells are unrestricted, and solvents use COSMO. The
    core potentials of def2 basis sets and LANL2DZ are added, unless the keywords contain some.
    """
    method, correction = split_dispersion(profile)
    theory = NWCHEM_THEORIES.get(method.lower(), "dft")
    if correction and theory != "dft":
        raise InputError(f"nwchem has no dispersion correction of {method}")
    unpaired = molecule.multiplicity - 1
    shells: Parameters = {"dft": {"mult": molecule.multiplicity}}
    if correction:
        shells["dft"]["disp"] = correction
    if theory != "dft":
        shells = {"scf": {"uhf" if unpaired else "rhf": None, "nopen": unpaired}}
    solvent = [f"cosmo\n  solvent {profile.solvent}\nend"] if profile.solvent else []
    others = "\n".join(  # ASE writes it unchanged
        (*_nwchem_cores(profile, molecule), *solvent, *profile.keywords, *lines)
    )
    return {
        "theory": theory,
        **({"xc": method} if theory == "dft" else {}),
        **({"basis": profile.basis} if profile.basis else {}),
        "basispar": "spherical",
        "charge": molecule.charge,
        **shells,
        **({others: None} if others else {}),
    }


def _nwchem_cores(profile: Profile, molecule: Molecule) -> Iterator[str]:
    """Yield the input block of the core potentials that belong to the basis set."""
    if any(line.lower().split()[:1] == ["ecp"] for line in profile.keywords):
        return
    if is_relativistic(profile.basis):
        raise InputError(
            f"basis {profile.basis!r} is contracted for relativistic Hamiltonians: use another"
        )
    if OTHER_CORES.search(profile.basis) and not profile.basis.lower().startswith("lanl2dz_ecp"):
        raise InputError(
            f"basis {profile.basis!r} is made for core potentials: add them with ecp … end "
            "in keywords, or use def2 or an all-electron basis"
        )
    for begin, (library, last) in CORE_POTENTIALS.items():
        heavy = sorted({chemical_symbols[z] for z in molecule.numbers if z > last})
        if heavy and profile.basis.lower().startswith(begin):
            yield "\n".join(["ecp", *(f"  {symbol} library {library}" for symbol in heavy), "end"])


def from_orbitals(profile: Profile) -> Parameters:
    """Return the parameters with which NWChem starts from its last orbitals, as ORCA does."""
    if profile.program != "nwchem":
        return {}
    block = "scf" if profile.method.lower() in NWCHEM_THEORIES else "dft"
    return {f"{block}\n  vectors input nwchem.movecs\nend": None}


def qchem_parameters(profile: Profile, molecule: Molecule) -> Parameters:
    """Return the parameters of ``ase.calculators.qchem.QChem``; keywords are lines of $rem.

    The core potentials of def2 basis sets are added, since Q-Chem does not add them by itself.
    """
    keywords = dict(map(split_keyword, profile.keywords))
    library, last = CORE_POTENTIALS["def2"]
    is_named = "ecp" in map(str.lower, keywords)
    has_cores = profile.basis.lower().startswith("def2") and molecule.numbers.max() > last
    return {
        **({"ecp": library} if has_cores and not is_named else {}),
        **keywords,
        "method": profile.method,
        "basis": profile.basis or None,
        "charge": molecule.charge,
        "multiplicity": molecule.multiplicity,
    }


def psi4_parameters(profile: Profile, molecule: Molecule) -> Parameters:
    """Return the parameters of ``ase.calculators.psi4.Psi4``; see also `psi4_options`."""
    keywords = _psi4_keywords(profile)
    return {
        **{name: keywords[name] for name in ASE_OPTIONS if name in keywords},
        "method": profile.method,
        "basis": profile.basis,
        "charge": molecule.charge,
        "multiplicity": molecule.multiplicity,
        # Psi4 would keep the last one
        "reference": keywords.get("reference", "rhf" if molecule.multiplicity == 1 else "uhf"),
    }


def psi4_options(profile: Profile) -> dict[str, Any]:
    """Return the keywords that ASE does not pass on, as options of Psi4."""
    keywords = _psi4_keywords(profile).items()
    return {name: value for name, value in keywords if name not in (*ASE_OPTIONS, "reference")}


def _psi4_keywords(profile: Profile) -> dict[str, Any]:
    """Return the keywords, with numbers converted: Psi4 ignores numbers given as text."""
    return {name.lower(): _number(value) for name, value in map(split_keyword, profile.keywords)}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def split_dispersion(profile: Profile) -> tuple[str, str]:
    """Split a method into functional and dispersion correction, as a keyword of the program.

    The correction is part of the name of functionals such as ωB97X-D3BJ and revDSD-PBEP86-D4.

    Raises
    ------
    ValueError
        If the program does not have the correction.
    """
    found = re.fullmatch(
        r"(?i)(?![wω]?b97|(?:rev)?dsd)(.+)-(d3bj|d3\(bj\)|d3zero|d3\(0\)|d3|d4)", profile.method
    )
    words = DISPERSION.get(profile.program)
    if found is None or words is None:
        return profile.method, ""
    correction = found[2].lower().replace("(0)", "zero").replace("(", "").replace(")", "")
    if correction not in words:
        raise InputError(
            f"{profile.program} has no dispersion correction {correction}: {', '.join(words)}"
        )
    return found[1], words[correction]


def split_keyword(line: str) -> tuple[str, str]:
    """Split ``NAME VALUE`` or ``NAME = VALUE`` into name and value."""
    name, _, value = line.replace("=", " ").strip().partition(" ")
    return name, value.strip()
