"""Solvents by name, as in the continuum model SMD, or by dielectric constant."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from diffrelax.errors import InputError
from diffrelax.levels.pyscf_library import loading_pyscf

with loading_pyscf():
    from pyscf.solvent.pcm import PCM
    from pyscf.solvent.smd import solvent_db

    from diffrelax.levels.fast_pyscf import is_fast
    from diffrelax.levels.fast_pyscf.continuum import KeepingPCM, KeepingSMD
    from diffrelax.levels.smd import SMDWithCores

EPSILON = 5  # column of PySCF's table
COMMON_NAMES = {
    "dcm": "dichloromethane",
    "diethyl ether": "diethylether",
    "dioxane": "1,4-dioxane",
    "dmf": "N,N-dimethylformamide",
    "dmso": "dimethylsulfoxide",
    "ether": "diethylether",
    "ethyl acetate": "ethylethanoate",
    "hexane": "n-hexane",
    "octanol": "1-octanol",
    "thf": "tetrahydrofuran",
}
_NAMES = {name.lower(): name for name in solvent_db} | COMMON_NAMES


def read_solvent(solvent: str) -> str | float:
    """Return the name of a solvent as PySCF spells it, or its dielectric constant.

    Parameters
    ----------
    solvent : str
        Such as ``"water"``, ``"DMSO"`` or ``"46.8"``.

    Raises
    ------
    ValueError
        If SMD has no such solvent, or the dielectric constant is not above 1.
    """
    try:
        epsilon = float(solvent)
    except ValueError:
        return _named(solvent)
    if not 1 < epsilon < float("inf"):
        raise InputError(f"solvent {solvent!r}: a dielectric constant must be finite and above 1")
    return epsilon


def dielectric_constant(solvent: str) -> float:
    """Return the dielectric constant of a solvent; see `read_solvent`."""
    known = read_solvent(solvent)
    return known if isinstance(known, float) else float(solvent_db[known][EPSILON])


def born_solvation(solvent: str) -> tuple[str, float, str]:
    """Return tblite's arguments for GFN2-xTB's solvation model, generalized Born."""
    return "gbe", dielectric_constant(solvent), "p16"


def dissolve(method: Any, solvent: str) -> Any:
    """Add a continuum solvent to a PySCF mean field.

    A named solvent is described by SMD (Marenich et al. 2009, doi 10.1021/jp810292n), including its
    terms for cavity, dispersion and solvent structure. A solvent given by its dielectric constant
    is described by IEF-PCM (Cancès et al. 1997, doi 10.1063/1.474659).

    Parameters
    ----------
    method : pyscf.scf.hf.SCF
        Add density fitting before.
    solvent : str
        See `read_solvent`.
    """
    known = read_solvent(solvent)
    if isinstance(known, float):
        continuum = (KeepingPCM if is_fast() else PCM)(method.mol)
        continuum.method, continuum.eps = "IEF-PCM", known
        return method.PCM(continuum)
    return method.SMD((KeepingSMD if is_fast() else SMDWithCores)(method.mol, known))


def _named(solvent: str) -> str:
    key = " ".join(solvent.lower().split())
    if key in _NAMES:
        return _NAMES[key]
    near = get_close_matches(key, _NAMES, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "give its dielectric constant"
    raise InputError(f"unknown solvent {solvent!r}: {hint}")
