"""From starts to the minima of a level of theory and their weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from diffrelax.cache import Unit, WorkFolder, work_key
from diffrelax.dft import DFTSettings
from diffrelax.dft.optimization import relax_with
from diffrelax.files.reading import Input, read_one
from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.checks import integer
from diffrelax.molecule.embedding import check_seed
from diffrelax.molecule.identity import has_enantiomer
from diffrelax.molecule.symmetry import find_symmetry
from diffrelax.sampling.conformers.record import Conformer, merge
from diffrelax.sampling.conformers.starts import find_starts
from diffrelax.sampling.ensemble import (
    Ensemble,
    EnsembleProvenance,
    Level,
    boltzmann_weights,
    check_temperature,
)

FMAX = 0.01  # eV/Å; at 0.03, floppy molecules end up to 0.9 kcal/mol above their minimum


def sample_conformers(
    molecule: Input,
    model: Model,
    n: int = 100,
    *,
    level: str | Level = "gfn2-xtb",
    temperature: float = 298.15,
    seed: int = 42,
    work: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Ensemble:
    """Find the conformers of a molecule and their Boltzmann weights at a level of theory.

    Three in four starts are embedded, half of them with ETKDGv3 and half without the torsions that
    it prefers (KDG), and relaxed with MMFF94; the others are some of those with one bond turned and
    Gaussian noise that the model takes away again. The model relaxes all of them in one batch,
    duplicates are merged, and what is left is relaxed at the level of theory and merged again,
    always as the same molecule. Mirror images of each other are one conformer, unless they are
    different molecules; a conformer of a chiral molecule has the configuration of the input.

    The weight of a conformer is proportional to (m/s) exp(−E/kT), with the electronic energy E, the
    rotational symmetry number s of its rigid geometry with all hydrogens, and m = 2 if it is chiral
    and the molecule is not, else 1. So the trans-trans conformer of pentane (s = 2) counts a
    quarter of a trans-gauche one (m = 2) of the same energy. Vibrations and moments of inertia are
    left out.

    Parameters
    ----------
    molecule : SMILES, path, Molecule, ase.Atoms or rdkit.Chem.Mol
        One molecule. Its own geometry is the first start.
    model : Model
        See :func:`diffrelax.load_model`.
    n : int
        Number of distinct starts, at most: embeddings and proposals go on until there are so many,
        up to five times that number, or until hardly any is new.
    level : str or Level
        One of `diffrelax.levels.LEVELS`; a `Level` to change its settings.
    temperature : float, K
    seed : int
        Of the embedding and the noise.
    work : path, optional
        Folder that keeps finished relaxations at the level of theory: a call that was interrupted
        and is made again goes on from there.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Ensemble
        By rising energy. The columns are ``symmetry_number`` (s), ``mirror_images`` (m) and
        ``n_starts``, how often each was found: by how many of all embeddings and proposals, of
        which most are not distinct and not relaxed at the level. Starts that failed are in
        ``provenance.notes``.

    Raises
    ------
    ValueError
        If the input is not one molecule that the model covers, ``n``, the temperature or the seed
        is out of range, or the level is unknown, not installed, or cannot describe the molecule.
    RuntimeError
        If no start reaches a minimum.
    """
    theory = Level.of(level)
    check_temperature(temperature)
    n, seed = integer("n", n), check_seed(seed)
    given = read_one(molecule, seed=seed)
    get_calculator(theory.name, given, **theory.settings)
    starts, notes = find_starts(given, model, n, seed, progress=progress)
    folder = WorkFolder.of(work)
    minima: list[Conformer] = []
    for start in tqdm(starts, theory.name, unit="conf", disable=None if progress else True):
        end, reason = relax_conformer(start, theory, folder)
        if reason:
            notes.append(f"{start.start}: {reason}")
        else:
            minima.append(end)
    if not minima:
        raise RuntimeError(
            f"{given.name}: no start reaches a minimum at level {theory}: {notes[-1]}"
        )
    return weigh(minima, theory, temperature, searched_by(model, n, seed, notes))


def searched_by(model: Model, n: int, seed: int, notes: Sequence[str]) -> EnsembleProvenance:
    """Say how conformers were found."""
    return EnsembleProvenance(
        method="conformers",
        seed=seed,
        model=model.name,
        model_sha256=model.sha256,
        settings={"n": n, "fmax": FMAX, "noise_level": model.config.denoiser.sigma_max},
        notes=tuple(notes),
    )


def relax_conformer(start: Conformer, level: Level, folder: WorkFolder) -> tuple[Conformer, str]:
    """Relax a geometry to a minimum at a level of theory, once for each folder.

    Returns
    -------
    Conformer
    str
        Why it is no minimum; empty if it is one.
    """
    settings = {"level": level.model_dump(mode="json"), "fmax": FMAX}
    key = work_key("conformer", start.molecule, settings)

    def whole(record: Unit) -> Unit | None:  # without, the level or its program may not fail again
        return record if record["energy"] is not None else None

    done = folder.find_or_do(
        key, lambda: _relax(start.molecule, level, folder.checkpoint(key)), whole, whole
    )
    if done["reason"]:
        return start, done["reason"]
    molecule = start.molecule.with_positions(np.array(done["positions"]), start.molecule.start)
    return replace(start, molecule=molecule, energy=done["energy"]), ""


def weigh(
    minima: Sequence[Conformer], level: Level, temperature: float, provenance: EnsembleProvenance
) -> Ensemble:
    """Merge minima and weight them with (m/s) exp(−E/kT), see `sample_conformers`."""
    conformers = merge(sorted(minima, key=lambda one: one.energy))
    molecules = [one.molecule for one in conformers]
    symmetries = [find_symmetry(molecule) for molecule in molecules]
    numbers = np.array([symmetry.number for symmetry in symmetries])
    achiral = not has_enantiomer(molecules[0])
    images = np.array([1 + (symmetry.chiral and achiral) for symmetry in symmetries])
    energies = np.array([one.energy for one in conformers])
    n_starts = np.array([one.n_starts for one in conformers])
    if len(conformers) == 1 and n_starts[0] > 1:
        note = f"all {n_starts[0]} embeddings and proposals that reach a minimum are one conformer"
        provenance = provenance.model_copy(update={"notes": (*provenance.notes, note)})
    return Ensemble(
        molecule=molecules[0],
        positions=np.array([one.positions for one in molecules]),
        energies=energies,
        weights=boltzmann_weights(energies, temperature, images / numbers),
        temperature=temperature,
        level=level,
        starts=tuple(one.start for one in conformers),
        provenance=provenance,
        columns={"symmetry_number": numbers, "mirror_images": images, "n_starts": n_starts},
    )


def _relax(molecule: Molecule, level: Level, checkpoint: Path | None) -> Unit:
    settings: dict[str, Any] = {**level.settings, "fmax": FMAX}
    if level.name == "dft":
        dft = relax_with(molecule, DFTSettings(**settings), checkpoint=checkpoint)
        positions, energy, reason = dft.molecule.positions, dft.energy, dft.reason
    else:
        relaxed = relax_at_level(molecule, level.name, **settings)
        positions, energy, reason = relaxed.positions, relaxed.energy, relaxed.reason
    known = None if isnan(energy) else energy
    return {"positions": positions.tolist(), "energy": known, "reason": reason}
