"""What the inputs of programs say of a molecule and a level, as parameters of ASE's writers."""

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
LINK0 = (  # of Gaussian, as ASE writes them; % nproc is an older name of nprocshared
    *("mem", "nprocshared", "cpu", "gpucpu", "lindaworkers", "usessh", "ssh", "debuglinda"),
    *("chk", "oldchk", "schk", "rwf", "oldmatrix", "oldrawmatrix", "int", "d2e"),
    *("save", "nosave", "errorsave"),
)
DISPERSION = {  # corrections as in b3lyp-d3bj, and what a program calls them
    "orca": {"d3bj": "D3BJ", "d3zero": "D3ZERO", "d4": "D4"},
    "gaussian": {"d3bj": "EmpiricalDispersion=GD3BJ", "d3zero": "EmpiricalDispersion=GD3"},
    "nwchem": {"d3bj": "vdw 4", "d3zero": "vdw 3"},
}
ASE_OPTIONS = ("memory", "num_threads")  # what ASE tells Psi4 itself
CORE_POTENTIALS = {  # beginnings of basis sets, what has their potentials, and the last without one
    "def2": ("def2-ecp", 36),
    "lanl2dz_ecp": ("lanl2dz_ecp", 10),
}
OTHER_CORES = re.compile(
    r"ecp|-pp(_|$)|^dhf|lanl|stuttgart|sbkjc|crenb|sdb", re.IGNORECASE
)  # basis sets for potentials that are not known here
NWCHEM_THEORIES = {"hf": "scf", "scf": "scf", "mp2": "mp2"}  # all else is a functional


def orca_parameters(
    profile: Profile, molecule: Molecule, task: str = "EnGrad", blocks: Sequence[str] = ()
) -> Parameters:
    """Return the parameters of ``ase.io.orca.write_orca``; solvents are in C-PCM."""
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
    """Return the parameters of ``ase.io.gaussian.write_gaussian_in``; solvents are in IEF-PCM.

    Lines of keywords that begin with % go before the route, the others into it. Without symmetry,
    coordinates and forces are those of the input.
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
    """Split a line such as ``%mem=4GB``."""
    name, _, value = (part.strip() for part in line[1:].partition("="))
    return {"nproc": "nprocshared"}.get(name.lower(), name.lower()), value


def nwchem_parameters(
    profile: Profile, molecule: Molecule, lines: Sequence[str] = ()
) -> Parameters:
    """Return the parameters of ``ase.io.nwchem.write_nwchem_in``.

    Basis sets have spherical functions, open shells are unrestricted, and solvents are in COSMO.
    The core potentials of Karlsruhe's basis sets and LANL2DZ are given, unless keywords have some.
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
    others = "\n".join(  # which ASE writes as it is
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
    """Yield the block of the core potentials that the basis set is made for."""
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
    """Return what NWChem needs to go on from its orbitals; ORCA does so by itself."""
    if profile.program != "nwchem":
        return {}
    block = "scf" if profile.method.lower() in NWCHEM_THEORIES else "dft"
    return {f"{block}\n  vectors input nwchem.movecs\nend": None}


def qchem_parameters(profile: Profile, molecule: Molecule) -> Parameters:
    """Return the parameters of ``ase.calculators.qchem.QChem``; keywords are lines of $rem.

    Q-Chem takes a basis set without the core potentials that it is made for, unless they are named.
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
    """Return the parameters of ``ase.calculators.psi4.Psi4``, which takes few of the keywords."""
    keywords = _psi4_keywords(profile)
    return {
        **{name: keywords[name] for name in ASE_OPTIONS if name in keywords},
        "method": profile.method,
        "basis": profile.basis,
        "charge": molecule.charge,
        "multiplicity": molecule.multiplicity,
        # it is kept otherwise
        "reference": keywords.get("reference", "rhf" if molecule.multiplicity == 1 else "uhf"),
    }


def psi4_options(profile: Profile) -> dict[str, Any]:
    """Return the other keywords, which are options of Psi4."""
    keywords = _psi4_keywords(profile).items()
    return {name: value for name, value in keywords if name not in (*ASE_OPTIONS, "reference")}


def _psi4_keywords(profile: Profile) -> dict[str, Any]:
    """Return keywords with numbers as such: Psi4 passes over texts in their place."""
    return {name.lower(): _number(value) for name, value in map(split_keyword, profile.keywords)}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def split_dispersion(profile: Profile) -> tuple[str, str]:
    """Return the method without a correction that its name ends on, and the program's word for it.

    Functionals such as ωB97X-D3BJ, B97-D3 and revDSD-PBEP86-D4 have it in their own names.

    Raises
    ------
    ValueError
        If the program has none such.
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
    """Split ``NAME VALUE`` or ``NAME = VALUE``."""
    name, _, value = line.replace("=", " ").strip().partition(" ")
    return name, value.strip()
