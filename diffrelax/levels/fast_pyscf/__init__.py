"""Faster parts for PySCF that use its internals and give the same energies.

They replace PySCF's own density fitting, grid integration and continuum. They are used with the
versions of PySCF for which they are tested. With another version, or with the environment variable
``DIFFRELAX_PLAIN_PYSCF=1``, PySCF is used unchanged.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib.metadata import version

VERSIONS = ("2.14",)  # of PySCF
PLAIN = "DIFFRELAX_PLAIN_PYSCF"


def is_fast() -> bool:
    """Return whether the faster parts are used."""
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
