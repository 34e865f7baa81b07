"""The flow from SMILES to minima."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ase
from jobflow import Flow, Job, Maker

from diffrelax.flows.arguments import Argument, as_arguments, atomic_numbers, label
from diffrelax.flows.stages import DFTRelaxMaker, DiffusionRelaxMaker, MoleculeMaker
from diffrelax.flows.summary import summarise


@dataclass
class RelaxFlowMaker(Maker):
    """Relax molecules with a diffusion model, batch by batch, then each at a level of theory.

    The last job of the flow accounts for each input exactly once, and is its output.

    Parameters
    ----------
    name : str
    relax_maker : DiffusionRelaxMaker
    minimise_maker : DFTRelaxMaker or ForceFieldRelaxMaker
    batch_size : int
        Molecules in one job of the diffusion model.
    """

    name: str = "relax flow"
    relax_maker: DiffusionRelaxMaker = field(default_factory=DiffusionRelaxMaker)
    minimise_maker: MoleculeMaker = field(default_factory=DFTRelaxMaker)
    batch_size: int = 64

    def make(self, molecules: Any) -> Flow:
        """Make the flow.

        Parameters
        ----------
        molecules : SMILES, path, Molecule, ase.Atoms, rdkit.Chem.Mol, pymatgen Molecule, \
OutputReference, or an iterable of these
            A file gives all molecules in it.

        Raises
        ------
        ValueError
            If there are none, or the size of a batch is not positive.
        """
        arguments = as_arguments(molecules)
        if not arguments:
            raise ValueError("a flow needs molecules: none were given")
        if self.batch_size < 1:
            raise ValueError(f"batch size {self.batch_size}: give 1 or more")
        batches: list[Job] = []
        minimisations: list[Job] = []
        relaxed = []
        for first, batch in _batches(arguments, self.batch_size):
            relax = self.relax_maker.make(batch)
            last = first + len(batch) - 1
            relax.append_name(f" {first}–{last}" if last > first else f" {first}")
            relax.metadata |= {"stage": "relax", "inputs": list(range(first, last + 1))}
            batches.append(relax)
            relaxed += [relax.output[i] for i in range(len(batch))]
        for i, (argument, reference) in enumerate(zip(arguments, relaxed, strict=True)):
            minimise = self.minimise_maker.make(reference)
            minimise.append_name(f" {i} {label(argument)}".rstrip())
            numbers = atomic_numbers(argument)
            formula = ase.Atoms(numbers).get_chemical_formula("hill")
            minimise.metadata |= {"stage": "minimise", "inputs": [i], "formula": formula}
            minimisations.append(minimise)
        summary = summarise(
            names=[label(argument) for argument in arguments],
            uuids=[job.uuid for job in minimisations],
            relaxed=relaxed,
            minimised=[job.output for job in minimisations],
        )
        summary.metadata["stage"] = "summary"
        jobs = [*batches, *minimisations, summary]
        return Flow(jobs, output=summary.output, name=self.name)


def _batches(arguments: Sequence[Argument], size: int) -> Iterator[tuple[int, list[Argument]]]:
    for first in range(0, len(arguments), size):
        yield first, list(arguments[first : first + size])
