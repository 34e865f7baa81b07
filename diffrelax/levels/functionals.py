"""Density functionals, complete as they are defined.

The name of a functional may imply more than PySCF calculates for it: a dispersion correction, a
basis set, second-order perturbation theory. Missing dispersion is added here, or the name is
refused. Functionals are identified as PySCF parses them, so that prefixes, spelling and sums of
functionals do not matter.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, NamedTuple

from diffrelax.errors import InputError
from diffrelax.extras import find_extra
from diffrelax.levels.composites import COMPOSITES, Composite
from diffrelax.levels.names import is_composite, letters, suggest_method
from diffrelax.levels.pyscf_library import loading_pyscf

with loading_pyscf():
    from pyscf.dft import libxc
    from pyscf.gto import M
    from pyscf.scf.dispersion import DISP_VERSIONS, parse_dft, parse_disp


class Functional(NamedTuple):
    """Settings of PySCF for a functional.

    Parameters
    ----------
    xc : str
    dispersion : str or None
        Correction as ``version:parameters``; None if ``xc`` includes it, or there is none.
    nonlocal_correlation : str or False
        PySCF's ``nlc``; empty: as in ``xc``, False: none.
    composite : Composite, optional
        Composite method that ``xc`` is part of.
    """

    xc: str
    dispersion: str | None = None
    nonlocal_correlation: str | bool = ""
    composite: Composite | None = None


class Lack(NamedTuple):
    """A part of a functional's definition that PySCF lacks, and what to use instead."""

    what: str
    instead: str
    replaced_by: tuple[str, ...] = ()


DOUBLE_HYBRID = re.compile(r"2(gp)?plyp|dsd|xyg|xdh|dh$|\(2\)")  # in names without - and _
EXCHANGE = re.compile(r"(HYB_)?(LDA|M?GGA)_X(_|$)")  # names of libxc
DEFINED = {  # by name, without - and _: PySCF reads these names as something else
    # Grimme, Ehrlich and Goerigk 2011, doi 10.1002/jcc.21759: the functional of B97-D
    "b97d3bj": Functional("gga_xc_b97_d", "d3bj:b97d"),
    "b97d3zero": Functional("gga_xc_b97_d", "d3zero:b97d"),
    "wb97md3": Functional("wb97m-d3bj"),
    "wb97xd": Functional("hyb_gga_xc_wb97x_d"),
    # Lin et al. 2013, doi 10.1021/ct300715s: not the ωB97X of 2008
    "wb97xd3": Functional("hyb_gga_xc_wb97x_d3", "d3zero:wb97x"),
    "wb97xd3zero": Functional("hyb_gga_xc_wb97x_d3", "d3zero:wb97x"),
    # Najibi and Goerigk 2020, doi 10.1002/jcc.26411: ωB97X-V without VV10
    "wb97xd4": Functional("wb97x_v", "d4:wb97x", False),
}

POTENTIALS = ("GGA_X_LB", "GGA_X_LBM")  # libxc would end the process
WHOLE = ("GGA_XC_VV10",)
D2 = Lack("the dispersion correction D2", "pbe-d4 or r2scan-d4")
VDW_DF = Lack("the van der Waals density functional", "r2scan-d4 or b97m-v")
RVV10 = Lack("the nonlocal correlation rVV10", "b97m-v or r2scan-d4")
LACKING = {
    "GGA_XC_B97_D": Lack("the dispersion correction D2", "b97-d3bj", ("d3", "d4")),
    "HYB_GGA_XC_WB97X_D": Lack("a dispersion correction of its own", "wb97x-d3 or wb97x-d3bj"),
    "HYB_GGA_XC_WB97X_D3": Lack("the dispersion correction D3", "wb97x-d3, alone"),
    "HYB_MGGA_X_CF22D": Lack("the dispersion correction D3", "cf22d, alone", ("d3zero",)),
    "MGGA_C_CF22D": Lack("the dispersion correction D3", "cf22d, alone", ("d3zero",)),
    "GGA_XC_B97_3C": Lack("a basis set and corrections of its own", "b97-3c, alone"),
    "MGGA_XC_OTPSS_D": D2,
    "GGA_XC_OPBE_D": D2,
    "GGA_XC_OPWLYP_D": D2,
    "GGA_XC_OBLYP_D": D2,
    "GGA_X_SSB_D": D2,
    "GGA_X_REVSSB_D": D2,
    "GGA_X_OPTB88_VDW": VDW_DF,
    "GGA_X_OPTB86B_VDW": VDW_DF,
    "GGA_X_OPTPBE_VDW": VDW_DF,
    "GGA_X_PBEK1_VDW": VDW_DF,
    "GGA_X_C09X": VDW_DF,
    "GGA_X_LV_RPW86": VDW_DF,
    "GGA_X_BEEFVDW": VDW_DF,
    "GGA_XC_BEEFVDW": VDW_DF,
    "MGGA_X_MBEEFVDW": VDW_DF,
    "MGGA_C_SCAN_RVV10": RVV10,
    "MGGA_C_SCANL_RVV10": RVV10,
    "MGGA_XC_VCML_RVV10": RVV10,
}


def read_functional(xc: str) -> Functional:
    """Parse the name of a functional, or a sum of functionals.

    Raises
    ------
    ValueError
        If it is empty or unknown, if its dispersion correction is unknown, not installed or not
        parametrised for it, or if PySCF lacks part of its definition.
    """
    if not xc.strip():
        raise InputError(f"no functional in xc={xc!r}: give one, such as b3lyp")
    short = re.sub(r"^(hyb)?m?ggaxc", "", letters(xc))
    if is_composite(xc):
        return _read_composite(xc, short)
    functional = DEFINED.get(short) or Functional(_spelled(xc))
    try:
        bare, nonlocal_correlation, _ = parse_dft(functional.xc)
        _, parts = libxc.parse_xc(bare)
        method, version, _ = parse_disp(functional.xc, functional.dispersion)
    except (KeyError, ValueError, NotImplementedError) as error:
        hint = "; write a dispersion correction as in b3lyp-d3bj" if "d3" in short else ""
        hint = "; give the basis set separately, with basis" if "/" in xc else hint
        hint = "; double hybrids are not supported" if DOUBLE_HYBRID.search(short) else hint
        near = get_close_matches(xc.upper(), [*libxc.XC_CODES, *libxc.XC_ALIAS], 3)
        hint = hint or suggest_method(xc)
        hint = hint or (f"; near is {' or '.join(near).lower()}" if near else "")
        raise InputError(f"unknown functional xc={xc!r}: {error}{hint}") from error
    if functional.dispersion is None:
        _refuse_incomplete(xc, bare, parts, version or "")
    left_on = nonlocal_correlation == functional.nonlocal_correlation == ""
    if version and left_on and libxc.is_nlc(bare):
        raise InputError(f"xc={xc!r} includes dispersion twice, VV10 and {version}: leave one out")
    if version:
        _check_dispersion(xc, method, version)
    return functional


def is_functional(xc: str) -> bool:
    """Return whether PySCF knows a functional, or a sum of functionals, by name."""
    return _is_known(_spelled(xc))


def _spelled(xc: str) -> str:
    """Return a name as PySCF spells it: with _ where it would read - as a minus sign."""
    first, dash, last = xc.rpartition("-")
    others = (xc.replace("-", "_"), first.replace("-", "_") + dash + last)
    return next((name for name in (xc, *others) if _is_known(name)), xc)


def _is_known(xc: str) -> bool:
    try:
        _, parts = libxc.parse_xc(parse_dft(xc)[0])
    except (KeyError, ValueError, NotImplementedError):
        return False
    return all(factor > 0 for _, factor in parts)


def _read_composite(xc: str, short: str) -> Functional:
    known = {name.replace("-", ""): composite for name, composite in COMPOSITES.items()}
    if short not in known:
        raise InputError(
            f"xc={xc!r} includes a basis set and corrections that PySCF lacks: use one of "
            f"{', '.join(COMPOSITES)}"
        )
    find_extra("pyscf.dispersion", "dispersion", f"the dispersion correction of xc={xc!r}")
    return Functional(known[short].xc, composite=known[short])


def _refuse_incomplete(xc: str, bare: str, parts: Any, version: str) -> None:
    names = {number: name for name, number in libxc.available_libxc_functionals().items()}
    if parts and "," not in bare and all(EXCHANGE.match(names[number]) for number, _ in parts):
        raise InputError(
            f"xc={xc!r} is exchange only: add a correlation functional after a comma, as in "
            "lda,vwn, or none, as in lda,"
        )
    for number, factor in parts:
        if factor < 0 and re.search(rf"-\s*{number}\b", bare):  # wb97x-2 is not a difference
            raise InputError(
                f"unknown functional xc={xc!r}: PySCF reads the {number} in it as a "
                f"functional ({names.get(number, number)}); double hybrids are not supported"
            )
        if factor <= 0 and "*" not in bare:
            raise InputError(
                f"unknown functional xc={xc!r}: PySCF reads the - in it as a minus sign. "
                "Write a difference with factors, as in pbe0-0.1*pbe"
            )
        name = names[number]
        if name in POTENTIALS:
            raise InputError(f"xc={xc!r} is {name}, a potential without an energy: use another")
        if name in WHOLE and len(parts) > 1:
            raise InputError(
                f"xc={xc!r} has {name}, which is a complete functional, as a part: use one "
                "that includes it by name, such as scan_vv10"
            )
        lack = LACKING.get(name)
        if lack and not (version and version.startswith(lack.replaced_by)):
            raise InputError(
                f"xc={xc!r} is {name}, which is defined with {lack.what}, and PySCF lacks "
                f"it: use {lack.instead}"
            )
    if libxc.needs_laplacian(bare):
        raise InputError(
            f"xc={xc!r} depends on the Laplacian of the density, for which PySCF has no "
            "potential: use another, such as r2scan"
        )


def _check_dispersion(xc: str, method: str, version: str) -> None:
    """Raise InputError if a correction is unknown or has no parameters for a functional."""
    if version not in DISP_VERSIONS:
        raise InputError(
            f"unknown dispersion correction {version!r} in xc={xc!r}: choose one of "
            f"{', '.join(DISP_VERSIONS)}"
        )
    find_extra("pyscf.dispersion", "dispersion", f"the dispersion correction of xc={xc!r}")
    from pyscf.dispersion import dftd3, dftd4

    helium = M(atom="He", verbose=0)
    try:
        if version == "d4":
            dftd4.DFTD4Dispersion(helium, xc=method)
        else:
            dftd3.DFTD3Dispersion(helium, xc=method, version=version)
    except RuntimeError as error:
        raise InputError(
            f"xc={xc!r}: the dispersion correction {version} has no parameters for {method!r} "
            f"({error})"
        ) from error
