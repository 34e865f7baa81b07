"""Diverse starts of a search for conformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from tqdm.auto import tqdm

from diffrelax.diffusion.samplers import centred_noise
from diffrelax.diffusion.schedule import relax_positions
from diffrelax.models.batches import batch_size, choose_schedule
from diffrelax.models.domain import outside_domain
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.embedding import check_seed
from diffrelax.molecule.identity import identity_change
from diffrelax.molecule.reembedding import embed_again
from diffrelax.molecule.torsions import Rotors
from diffrelax.relaxation import relax_molecules
from diffrelax.sampling.conformers.record import Conformer, merge

PROPOSED = 4  # one start in so many is a proposal of the model
ROUNDS = 5
FRESH = 0.05  # share of a round that must be new for another one to follow


def find_starts(
    molecule: Molecule, model: Model, n: int, seed: int = 42, *, progress: bool = False
) -> tuple[list[Conformer], list[str]]:
    """Find distinct geometries near minima with the model alone.

    Rounds of ``n`` embeddings and proposals follow one another until that many distinct geometries
    are found: five at most, and none after a round in which nearly all was known.

    Parameters
    ----------
    molecule : Molecule
    model : Model
    n : int
        Number of distinct starts, at most.
    seed : int
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    list of Conformer
        Relaxed by the model. Where its result is another molecule, the start stands as it was.
    list of str
        What failed.

    Raises
    ------
    ValueError
        If the model does not cover the molecule, or ``n`` or the seed is out of range.
    """
    if n < 1:
        raise ValueError(f"n = {n}: ask for at least one start")
    check_seed(seed + ROUNDS * n)
    if reason := outside_domain(molecule, model):
        raise ValueError(f"{molecule.name}: {reason}")
    found: list[Conformer] = []
    notes: list[str] = []
    with tqdm(total=n, desc="starts", unit="conf", disable=None if progress else True) as bar:
        for first in range(0, ROUNDS * n, n):
            known = len(found)
            relaxed, told = _round(molecule, model, n, first, seed)
            found = merge(relaxed, found)
            notes += told
            bar.update(min(len(found), n) - bar.n)
            if len(found) >= n or len(found) - known < FRESH * n:
                break
    return found[:n], notes


def _round(
    molecule: Molecule, model: Model, n: int, first: int, seed: int
) -> tuple[list[Conformer], list[str]]:
    n_proposed = n // PROPOSED
    starts, notes = _embedded(molecule, range(first, first + n - n_proposed), seed)
    if not starts:
        return [], notes
    proposed = _proposed(starts, model, n_proposed, first, seed)
    if lost := n_proposed - len(proposed):
        notes.append(f"{lost} of {n_proposed} proposals of the model were other molecules")
    starts += proposed
    results = relax_molecules([start.molecule for start in starts], model)
    relaxed = []
    for start, result in zip(starts, results, strict=True):
        if result.verdict != "relaxed":
            notes.append(f"{start.start}: not relaxed by the model: {result.reason}")
        relaxed.append(replace(start, molecule=result.molecule or start.molecule))
    return relaxed, notes


def _embedded(molecule: Molecule, places: range, seed: int) -> tuple[list[Conformer], list[str]]:
    """Embed with and without the torsions of crystals, in which some conformers are missing.

    The molecule as it stands is the first of all.
    """
    starts, notes = [], []
    for i in places:
        if i == 0:
            own = "given" if molecule.start == "given" else "etkdg 0"
            starts.append(Conformer(own, molecule))
            continue
        name = f"kdg {i}" if i % 2 else f"etkdg {i}"
        try:
            embedded = embed_again(molecule, seed + i, "KDG" if i % 2 else "ETKDGv3")
        except ValueError as error:
            notes.append(f"{name}: {error}")
            continue
        starts.append(Conformer(name, embedded))
    return starts, notes


def _proposed(
    parents: Sequence[Conformer], model: Model, n: int, first: int, seed: int
) -> list[Conformer]:
    """Turn geometries, put noise on them, and keep what the model makes of them.

    One rotor of each is turned by a third, either way; what is another molecule is left out.
    """
    if n == 0:
        return []
    molecule = parents[0].molecule
    geometries = np.array([parents[i % len(parents)].molecule.positions for i in range(n)])
    if len(rotors := Rotors.of(molecule)):
        rng = np.random.default_rng(seed + first)
        angles = rng.choice([-1, 1], n) * 2 * np.pi / 3
        geometries = rotors.turn(geometries, rng.integers(len(rotors), size=n), angles)
    centred = torch.tensor(geometries - geometries.mean(axis=1, keepdims=True)).float()
    numbers = torch.tensor(molecule.numbers).expand(n, -1)
    noise = centred_noise(numbers > 0, torch.Generator().manual_seed(seed + first))
    noise_level = model.config.denoiser.sigma_max
    schedule = choose_schedule(model, noise_level)
    size = batch_size(molecule.n_atoms)
    batches = zip(numbers.split(size), (centred + noise_level * noise).split(size), strict=True)
    denoised = torch.cat(
        [
            relax_positions(
                model.denoiser,
                z.to(model.device),
                x.to(model.device),
                schedule,
                theory=model.theory([molecule.charge] * len(z)),
            ).cpu()
            for z, x in batches
        ]
    )
    return [
        Conformer(f"denoised {first + i}", molecule.with_positions(positions, "diffusion"))
        for i, positions in enumerate(denoised.double().numpy())
        if not identity_change(molecule, positions)
    ]
