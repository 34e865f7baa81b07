"""Packages that only some tasks need: where they are, or which extra to install."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from importlib.util import find_spec

from diffrelax.errors import InputError


class NotInstalledError(ImportError, InputError):
    """A package, program or file of weights that is asked for is not here."""


def find_extra(package: str, extra: str, what: str) -> ModuleSpec:
    """Find a package that an extra brings, without importing it.

    Parameters
    ----------
    package : str
        As it is imported.
    extra : str
        The extra of diffrelax that has it.
    what : str
        What is asked for and needs it, in words.

    Returns
    -------
    importlib.machinery.ModuleSpec

    Raises
    ------
    NotInstalledError
        If it is not here.
    """
    found = find_spec(package)
    if found is None:
        raise NotInstalledError(
            f"{what} needs the package {package}, which is not installed: "
            f'pip install "diffrelax[{extra}]"'
        )
    return found
