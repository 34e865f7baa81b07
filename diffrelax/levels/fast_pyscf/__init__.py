"""Faster parts for PySCF, with the same energies, that reach into its internals.

They take the place of PySCF's own density fitting, integration grid and continuum, and save about
two thirds of the time of drug-like molecules: what each saves is in its module. They are used with
the versions of PySCF that they are known to fit. With another one, or where the environment has
``DIFFRELAX_PLAIN_PYSCF=1``, PySCF goes as it is.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib.metadata import version

VERSIONS = ("2.14",)  # of PySCF
PLAIN = "DIFFRELAX_PLAIN_PYSCF"


def is_fast() -> bool:
    """Whether the faster parts are used."""
    return os.environ.get(PLAIN, "") in ("", "0") and _fits(version("pyscf"))


@cache
def _fits(installed: str) -> bool:
    if installed.startswith(tuple(f"{known}." for known in VERSIONS)):
        return True
    warnings.warn(
        f"PySCF {installed} is used without the faster code, which supports "
        f"{', '.join(VERSIONS)} only: DFT takes about three times as long",
        stacklevel=3,
    )
    return False
