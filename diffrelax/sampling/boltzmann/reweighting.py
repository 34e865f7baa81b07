"""Samples drawn at one level of theory, weighted at another."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from diffrelax.errors import InputError, UnfinishedError
from diffrelax.progress import progress_bar
from diffrelax.sampling.boltzmann.diagnostics import MIN_ESS
from diffrelax.sampling.boltzmann.remembered import surface_at
from diffrelax.sampling.boltzmann.sampling import METHOD
from diffrelax.sampling.ensemble import Ensemble, LevelSettings
from diffrelax.store import Store

MOST_LOST = 0.05  # of the samples


def reweight(
    ensemble: Ensemble,
    level: str | LevelSettings,
    *,
    checkpoint: Store | str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Ensemble:
    """Evaluate the frames of an ensemble at another level of theory, and weight them there.

    See `Ensemble.reweighted`. How far to trust the result is in ``provenance.diagnostics``, under
    ``reweighted_ess``: the share of the samples that the unequal weights leave (Kish's), of the
    effective sample size of the chains. Where it is below 400 a note says so.

    Parameters
    ----------
    ensemble : Ensemble
    level : str or LevelSettings
    checkpoint : path or Store, optional
        File that keeps the energies as they are calculated; any number of calls may share it. The
        same call made again, be it with more frames, takes them from there.
    progress : bool
        Show a progress bar on standard error.

    Raises
    ------
    ValueError
        If the samples are not canonical at their own level, the new level is unknown, not
        installed, or cannot describe the molecule, or the checkpoint is damaged.
    RuntimeError
        If it has no energy for more than a twentieth of the frames; fewer are left out, and a note
        says how many.
    """
    if ensemble.provenance.method != METHOD:
        raise InputError(
            f"frames of the method {ensemble.provenance.method!r} are not canonical and cannot be "
            "reweighted: draw them with sample_boltzmann"
        )
    chosen = LevelSettings.of(level)
    energies = np.empty(len(ensemble.positions))
    with (
        surface_at(ensemble.molecule, chosen, checkpoint) as surface,
        progress_bar(len(energies), "frame", chosen.name, show=progress) as bar,
    ):
        for i, frame in enumerate(ensemble.positions):
            energies[i] = surface.energies(frame[None])[0]
            bar.update()
    notes = list(ensemble.provenance.notes)
    known_at = np.isfinite(energies)
    if lost := int((~known_at).sum()):
        message = f"level {chosen} has no energy for {lost} of {len(energies)} samples"
        if lost > MOST_LOST * len(energies):
            raise UnfinishedError(f"{ensemble.molecule.name}: {message}: use another level")
        notes.append(f"{message}, which are left out")
        ensemble, energies = ensemble.select(known_at), energies[known_at]
    weighted = ensemble.reweighted(energies, chosen)
    known: dict[str, Any] = ensemble.provenance.diagnostics
    correlated = min(ess or 0.0 for ess in known["ess"].values())
    left = correlated * weighted.effective_sample_size / len(weighted.energies)
    if left < MIN_ESS:
        notes.append(
            f"the effective sample size at {chosen} is {left:.0f}, below {MIN_ESS}: "
            "averages are based on few samples"
        )
    provenance = weighted.provenance.model_copy(
        update={"diagnostics": {**known, "reweighted_ess": left}, "notes": tuple(notes)}
    )
    return replace(weighted, provenance=provenance)
