"""Samples of molecules: starts, and their DFT geometries."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import ase
import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdMolAlign

from diffrelax.errors import InputError
from diffrelax.geometry import superpose, torsion_changes
from diffrelax.levels import relax_at_level
from diffrelax.molecule import Molecule
from diffrelax.molecule.embedding import embed
from diffrelax.molecule.identity import has_enantiomer
from diffrelax.training.config import TrainingConfig
from diffrelax.training.geometries import GeometrySet

STARTS = {
    "mmff94": "MMFF94",
    "uff": "UFF",
    "gfn2-xtb": "GFN2-xTB",
    "embedded": "ETKDGv3 and MMFF94",
    "minimum": "DFT minimum",
}
FMAX = 0.02  # eV/Å, for relaxations at cheap levels
SEED = 42
MAX_MATCHES = 10_000
TRAINED_ON = TrainingConfig()


@dataclass(frozen=True, eq=False)
class Sample:
    """Molecules at their starts, with their DFT geometries.

    Parameters
    ----------
    start : str
        Kind of starts, one of `STARTS`.
    starts : list of Molecule
    references : list of (n_atoms, 3) arrays, Å
    indices : list of int
        Numbers of the molecules in their source.
    source : str
    level : str
        Level of theory of the references; empty if unknown.
    """

    start: str
    starts: list[Molecule]
    references: list[np.ndarray]
    indices: list[int]
    source: str = "qm9"
    level: str = ""


def choose_sample(
    geometries: GeometrySet, n: int, *, source: str = "qm9", level: str | None = None
) -> Sample:
    """Choose the first ``n`` molecules in a fixed random order, at their MMFF94 geometries.

    Only molecules with an MMFF94 geometry are chosen, whether it is in the basin of the minimum or
    not. Molecules whose bonds do not match their SMILES are left out.

    Parameters
    ----------
    geometries : GeometrySet
    n : int
    source : str
        Prefix of the names of the molecules.
    level : str, optional
        Level of theory of the minima; required if the set has several.

    Raises
    ------
    ValueError
        If ``n`` is not positive, or larger than the number of such molecules, if the set lacks the
        level, or if it has several levels and none is given.
    """
    names = geometries.levels or ("",)
    if (level is None and len(names) > 1) or (level and level not in names):
        raise InputError(f"level {level}: the set has minima at {', '.join(names)}; choose one")
    level = level or names[0]
    of_level = geometries.level == names.index(level)
    eligible = np.flatnonzero(np.isfinite(geometries.start_rmsd) & of_level)
    if not 0 < n <= len(eligible):
        raise InputError(f"n = {n}: choose 1 to {len(eligible)} molecules")
    chosen = np.random.default_rng(0).permutation(eligible)[:n]
    starts, references, indices = [], [], []
    for i in chosen:
        rows, index = geometries.atoms(i), int(geometries.index[i])
        info = {"name": f"{source}-{index}", "smiles": geometries.smiles[i].decode()}
        atoms = ase.Atoms(geometries.numbers[rows], geometries.starts[rows], info=info)
        try:
            molecule = Molecule.from_atoms(atoms)
        except ValueError:
            continue
        starts.append(replace(molecule, start="mmff94"))
        references.append(geometries.positions[rows].astype(np.float64))
        indices.append(index)
    return Sample("mmff94", starts, references, indices, source, level)


def start_from(sample: Sample, start: str) -> Sample:
    """Return the sample with other starts.

    Parameters
    ----------
    sample : Sample
    start : str
        - ``mmff94``, ``uff``, ``gfn2-xtb``: relaxations of the DFT geometry to 0.02 eV/Å. Molecules
          that change, do not converge or cannot be described at the level are left out.
        - ``embedded``: ETKDGv3 and MMFF94, as for a SMILES. Molecules that are not in the basin of
          the DFT geometry are left out: those that differ from it by more than 0.7 Å (aligned root
          mean square) or 60° in a torsion.
        - ``minimum``: the DFT geometry itself.

    Raises
    ------
    ValueError
        If no molecules are left.
    """
    if start == sample.start:
        return sample
    kept = [
        (geometry, reference, index)
        for geometry, reference, index in zip(
            _geometries(sample, start), sample.references, sample.indices, strict=True
        )
        if geometry is not None
    ]
    if not kept:
        raise InputError(f"no molecule can be started from {start}")
    geometries, references, indices = zip(*kept, strict=True)
    return replace(
        sample,
        start=start,
        starts=list(geometries),
        references=list(references),
        indices=list(indices),
    )


def _geometries(sample: Sample, start: str) -> Iterator[Molecule | None]:
    for molecule, reference in zip(sample.starts, sample.references, strict=True):
        minimum = molecule.with_positions(reference)
        if start == "minimum":
            yield minimum
        elif start == "embedded":
            yield embed_in_basin(minimum)
        else:
            relaxed = relaxed_positions(minimum, start)
            yield None if relaxed is None else minimum.with_positions(relaxed, start=start)


def peer_settings(level: str) -> dict[str, Any]:
    """Return the settings of a level: GFN2-xTB uses the program xtb if it is installed."""
    if level != "gfn2-xtb":
        return {}
    return {"program": "xtb" if shutil.which("xtb") else "tblite"}


def relaxed_positions(molecule: Molecule, level: str) -> np.ndarray | None:
    """Relax a molecule to `FMAX`; None if the level fails or cannot describe it."""
    try:
        relaxed = relax_at_level(molecule, level, fmax=FMAX, **peer_settings(level))
    except ValueError:
        return None
    return relaxed.positions if relaxed.converged else None


def embed_in_basin(minimum: Molecule) -> Molecule | None:
    """Embed a molecule with the atom order of a minimum, and check that it is in its basin.

    The mirror image of the embedding counts too, unless the molecule has an enantiomer.

    Returns
    -------
    Molecule or None
        None if it is in another basin, did not converge with MMFF94, or cannot be embedded.
    """
    reference = minimum.to_rdkit()
    try:
        mol, force_field = embed(reference, SEED)
    except ValueError:
        return None
    with rdBase.BlockLogs():
        mirrors = (False,) if has_enantiomer(minimum) else (False, True)
        fits = [
            rdMolAlign.GetBestAlignmentTransform(
                mol, reference, reflect=mirror, maxMatches=MAX_MATCHES
            )
            for mirror in mirrors
        ]
    closest = min(range(len(fits)), key=lambda i: fits[i][0])
    own, theirs = np.array(fits[closest][2]).T
    positions = np.empty_like(minimum.positions)
    positions[theirs] = mol.GetConformer().GetPositions()[own]
    if mirrors[closest]:
        positions *= [-1.0, 1.0, 1.0]
    positions = superpose(positions, minimum.positions)[0]
    start = minimum.with_positions(positions, start=force_field)
    return start if force_field == "mmff94" and in_basin(start, minimum.positions) else None


def in_basin(start: Molecule, minimum: np.ndarray) -> bool:
    """Return whether a start is in the basin of its minimum, by the training's definition.

    Parameters
    ----------
    start : Molecule
    minimum : (n_atoms, 3) array, Å
    """
    bonded = Chem.GetAdjacencyMatrix(start.to_rdkit()).astype(bool)
    turned = torsion_changes(bonded, start.positions, minimum).max(initial=0.0)
    return bool(TRAINED_ON.in_basin(superpose(start.positions, minimum)[1], turned))
