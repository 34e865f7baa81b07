"""Geometries for jobs of other software, such as quacc and atomate2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ase.io.jsonio import encode
from jobflow import job

from diffrelax.errors import InputError
from diffrelax.files.reading import Rejected
from diffrelax.flows.arguments import read_argument


@job
def to_atoms(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the geometry of a result; jobs that refer to the output get ``ase.Atoms``.

    This requires pymatgen, whose JSON form of ``ase.Atoms`` is stored; the Makers of diffrelax also
    read it.

    Parameters
    ----------
    document : mapping
        A molecule, or the result of a stage.

    Raises
    ------
    ValueError
        If there is no geometry because an earlier stage failed.
    """
    molecule = read_argument(document)
    if isinstance(molecule, Rejected):
        raise InputError(f"{molecule.name} has no geometry: {molecule.reason}")
    atoms = molecule.to_atoms()
    info, atoms.info = atoms.info, {}
    return {
        "@module": "pymatgen.io.ase",
        "@class": "MSONAtoms",
        "atoms_json": encode(atoms),
        "atoms_info": info,
    }
