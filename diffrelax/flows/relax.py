"""The flow from SMILES to minima."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import ase
from jobflow import Flow, Job, Maker, OutputReference

from diffrelax.errors import InputError
from diffrelax.flows.arguments import Argument, as_arguments, atomic_numbers, job_name, label
from diffrelax.flows.batches import DiffusionRelaxMaker
from diffrelax.flows.levels import DFTRelaxMaker, MoleculeMaker
from diffrelax.flows.summary import summarise
from diffrelax.flows.units import hand_on


@dataclass
class RelaxFlowMaker(Maker):
    """Relax molecules with a diffusion model, batch by batch, then each at a level of theory.

    The last job is a summary with one entry for each input; its output is that of the flow.

    Parameters
    ----------
    name : str
    relax_maker : DiffusionRelaxMaker
        Its default level is the one nearest to that of ``minimise_maker``.
    minimise_maker : DFTRelaxMaker or ForceFieldRelaxMaker
    batch_size : int
        Molecules per job of the diffusion model.
    minimise_batch_size : int
        Molecules per job of the level, from the same batch of the model. Use more than one only for
        levels that take seconds: a job that dies loses all its results.
    """

    name: str = "relax flow"
    relax_maker: DiffusionRelaxMaker = field(default_factory=DiffusionRelaxMaker)
    minimise_maker: MoleculeMaker = field(default_factory=DFTRelaxMaker)
    batch_size: int = 64
    minimise_batch_size: int = 1

    def make(self, molecules: Any, *, charge: int | None = None) -> Flow:
        """Make the flow.

        Parameters
        ----------
        molecules : SMILES, path, Molecule, ase.Atoms, rdkit.Chem.Mol, pymatgen Molecule, \
OutputReference, or an iterable of these
            All molecules of a file are used.
        charge : int, optional
            Of the geometries in files that tell none.

        Raises
        ------
        ValueError
            If there are no molecules, or a batch size is not positive.
        """
        arguments = as_arguments(molecules, seed=self.relax_maker.seed, charge=charge)
        if not arguments:
            raise InputError("a flow needs at least one molecule")
        for size in (self.batch_size, self.minimise_batch_size):
            if size < 1:
                raise InputError(f"batch size {size}: give 1 or more")
        relax_maker = self.relax_maker
        if not relax_maker.level:
            relax_maker = replace(relax_maker, level=self.minimise_maker.level_name)
        minimised: list[OutputReference] = []
        relaxations: list[Job] = []
        starts: list[OutputReference] = []
        minimisations: list[Job] = []
        for batch in _batches(range(len(arguments)), self.batch_size):
            relax = relax_maker.run([arguments[i] for i in batch])
            _describe(relax, "relax", batch)
            relaxations.append(relax)
            handed = self._hand_on(relax, batch)
            minimisations += [handed] if handed is not relax else []
            starts.append(handed.output)
            # no job waits for two batches, so that none is lost with another's
            for part in _batches(batch, self.minimise_batch_size):
                minimise, outputs = self._minimise(part, batch, handed, arguments)
                minimised += outputs
                minimisations.append(minimise)
        summary = summarise(
            names=[label(argument) for argument in arguments],
            uuids=[output.uuid for output in minimised],
            relaxed=starts,
            minimised=minimised,
            batch_size=self.batch_size,
        )
        summary.metadata["stage"] = "summary"
        jobs = [*relaxations, *minimisations, summary]
        return Flow(jobs, output=summary.output, name=self.name)

    def _hand_on(self, relax: Job, batch: range) -> Job:
        """Return the job whose output later jobs refer to."""
        if not self.relax_maker.work or len(batch) == 1:
            return relax
        handed = hand_on(relax.output, self.relax_maker.work)
        _describe(handed, "hand on", batch)
        return handed

    def _minimise(
        self, part: range, batch: range, handed: Job, arguments: list[Argument]
    ) -> tuple[Job, list[OutputReference]]:
        starts = [handed.output[i - batch.start] for i in part]
        if len(part) == 1:
            job = self.minimise_maker.make(starts[0])
            outputs = [job.output]
        else:
            job = self.minimise_maker.make_batch(starts)
            outputs = [job.output[i] for i in range(len(part))]
        _describe(job, "minimise", part, label(arguments[part[0]]) if len(part) == 1 else "")
        job.metadata["formulas"] = [_formula(arguments[i]) for i in part]
        return job, outputs


def _batches(indices: range, size: int) -> Iterator[range]:
    for first in range(0, len(indices), size):
        yield indices[first : first + size]


def _span(batch: range) -> str:
    return f"{batch[0]}–{batch[-1]}" if len(batch) > 1 else str(batch[0])


def _describe(job: Job, stage: str, batch: range, name: str = "") -> None:
    job.name = job_name(job.name, _span(batch), name)
    job.metadata |= {"stage": stage, "inputs": list(batch)}


def _formula(argument: Argument) -> str:
    return ase.Atoms(atomic_numbers(argument)).get_chemical_formula("hill")
