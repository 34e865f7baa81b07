"""Optional packages, and which extra installs them."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from importlib.util import find_spec

from diffrelax.errors import InputError


class NotInstalledError(ImportError, InputError):
    """A package, program or file of weights is not installed."""


def find_extra(package: str, extra: str, what: str) -> ModuleSpec:
    """Find a package of an extra without importing it.

    Parameters
    ----------
    package : str
        Import name.
    extra : str
        Extra of diffrelax that contains it.
    what : str
        What needs it, for the message.

    Returns
    -------
    importlib.machinery.ModuleSpec

    Raises
    ------
    NotInstalledError
        If it is not installed.
    """
    found = find_spec(package)
    if found is None:
        raise NotInstalledError(
            f"{what} needs the package {package}, which is not installed: "
            f'pip install "diffrelax[{extra}]"'
        )
    return found
