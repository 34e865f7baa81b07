"""Subjects (molecules) and arms (start and recipe) of a speed-up measurement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import NamedTuple

from diffrelax.clock import NO_TIME, Time, timed
from diffrelax.dft import DFTSettings
from diffrelax.dft.optimization import check_settings
from diffrelax.dft.optimizers import find_optimizer, optimizer_names
from diffrelax.dft.settings import PREDICTS
from diffrelax.errors import InputError
from diffrelax.files.reading import Rejected
from diffrelax.levels import CHEAP_LEVELS, check_installed, relax_at_level
from diffrelax.molecule import Molecule
from diffrelax.store import work_key

HESSIANS = {"": "none", "hessian": "gfn2-xtb"}
BASE_STEPS = 20_000  # as for an embedding
STARTS = (*CHEAP_LEVELS, "diffusion", "given")
DEFAULT_STARTS = ("mmff94", "gfn2-xtb", "diffusion")
DEFAULT_RECIPES = ("bfgs", "tric+hessian")


class SpeedupArm(NamedTuple):
    """A start and a recipe for a DFT relaxation.

    Parameters
    ----------
    start : str
        One of `STARTS`, or the name of a known geometry of the subjects.
    recipe : str
        Name of an optimizer; with ``+hessian`` it starts from the Hessian of GFN2-xTB, with
        ``+aimnet2-hessian`` from that of AIMNet2, and so on.
    """

    start: str
    recipe: str

    def __str__(self) -> str:
        return f"{self.start}, {self.recipe}"

    def settings(self, level: DFTSettings) -> DFTSettings:
        """Return the DFT settings of this arm.

        `one_call` is dropped for recipes that cannot predict the minimum.
        """
        optimizer, _, start = self.recipe.partition("+")
        hessian = HESSIANS.get(start) or start.removesuffix("-hessian")
        predicts = level.one_call and hessian in PREDICTS and find_optimizer(optimizer).newton
        changed = {"optimizer": optimizer, "hessian": hessian, "one_call": predicts}
        return level.model_copy(update=changed)


def recipe_of(settings: DFTSettings) -> str:
    """Return the recipe that corresponds to DFT settings."""
    starts = {level: start for start, level in HESSIANS.items()}
    start = starts.get(settings.hessian, f"{settings.hessian}-hessian")
    return "+".join(filter(None, (settings.optimizer, start)))


def combine(starts: Iterable[str], recipes: Iterable[str]) -> list[SpeedupArm]:
    """Return every combination of a start and a recipe once, in order."""
    starts = list(dict.fromkeys(starts))
    return [SpeedupArm(start, recipe) for recipe in dict.fromkeys(recipes) for start in starts]


@dataclass(frozen=True, eq=False)
class Subject:
    """A molecule on which the arms are compared.

    Parameters
    ----------
    name : str
    base : Molecule or None
        Molecule at the force-field geometry that all arms are based on; None if there is none.
    time : Time
        Time of the embedding and the force field; counted in every arm.
    known : mapping of str to Molecule
        Geometries known in advance, by name of start; their cost is only ``time``.
    reason : str
        Why there is no base; empty if there is one.
    repeated : bool
        Whether the molecule is a repetition of an earlier one, and is not counted.
    """

    name: str
    base: Molecule | None
    time: Time = NO_TIME
    known: Mapping[str, Molecule] = field(default_factory=dict)
    reason: str = ""
    repeated: bool = False

    @property
    def key(self) -> str:
        """Key of equal molecules with equal geometries; empty without a base.

        For an embedding it is the canonical SMILES.
        """
        if self.base is None:
            return ""
        if self.base.is_embedded and self.base.smiles and not self.known:
            return self.base.smiles
        geometries = {"base": self.base, **self.known}
        return " ".join(work_key(name, molecule, {}) for name, molecule in geometries.items())


def subjects_of(molecules: Iterable[Molecule | Rejected]) -> list[Subject]:
    """Return a subject for each molecule, with distinct names.

    Coordinates that are not an embedding are relaxed with MMFF94; the result is the base if it
    converged, and the original coordinates are the start ``given``. A repeated geometry has no
    base.

    Parameters
    ----------
    molecules : iterable of Molecule or Rejected
        The time to get each item from the iterator is the time of its embedding.
    """
    subjects = [_subject(molecule, time) for molecule, time in timed(molecules)]
    names = distinct(subject.name for subject in subjects)
    named = [replace(subject, name=name) for subject, name in zip(subjects, names, strict=True)]
    return list(_each_once(named))


def _each_once(subjects: Iterable[Subject]) -> Iterator[Subject]:
    """Keep the first of equal subjects; the others have no base and are marked as repeated."""
    first: dict[str, str] = {}
    for subject in subjects:
        earlier = first.setdefault(subject.key, subject.name)
        if earlier == subject.name or subject.base is None:
            yield subject
        else:
            yield Subject(subject.name, None, reason=same_as(earlier), repeated=True)


def same_as(name: str) -> str:
    """Return the reason for leaving out a repetition of an earlier molecule."""
    return f"the same molecule as {name}"


def distinct(names: Iterable[str]) -> list[str]:
    """Make names distinct with numbers: a, a (2), a (3)."""
    taken: dict[str, None] = {}
    for name in names:
        numbered = (f"{name} ({i})" for i in count(2))
        taken[next(n for n in chain([name], numbered) if n not in taken)] = None
    return list(taken)


def _subject(molecule: Molecule | Rejected, time: Time) -> Subject:
    if isinstance(molecule, Rejected):
        return Subject(molecule.name, None, reason=f"not a molecule: {molecule.reason}")
    if molecule.is_embedded:
        return Subject(molecule.name, molecule, time)
    known = {"given": molecule}
    started = Time.now()
    try:
        relaxed = relax_at_level(molecule, "mmff94", max_steps=BASE_STEPS)
    except ValueError:  # no bonds or no parameters
        return Subject(molecule.name, molecule, time, known)
    if not relaxed.converged:  # the mmff94 arm reports the reason
        return Subject(molecule.name, molecule, time, known)
    base = molecule.with_positions(relaxed.positions, start="mmff94")
    return Subject(molecule.name, base, time + (Time.now() - started), known)


def check_arms(arms: Iterable[SpeedupArm], known: Iterable[str] = ()) -> None:
    """Check that all arms can be run.

    Parameters
    ----------
    arms : iterable of SpeedupArm
    known : iterable of str
        Names of known geometries.

    Raises
    ------
    ValueError
        If a start or a recipe is unknown, or a level or an optimizer is not installed.
    """
    starts = (*STARTS, *known)
    optimizers = optimizer_names()
    hessians = (*HESSIANS, *(f"{level}-hessian" for level in CHEAP_LEVELS))
    for arm in arms:
        optimizer, _, start = arm.recipe.partition("+")
        if optimizer not in optimizers or start not in hessians:
            raise InputError(
                f"unknown recipe {arm.recipe!r}: choose one of {', '.join(optimizers)}, with "
                "+hessian or +aimnet2-hessian behind it to start from a Hessian"
            )
        check_settings(arm.settings(DFTSettings()))
        if arm.start not in starts:
            raise InputError(f"unknown start {arm.start!r}: choose one of {', '.join(starts)}")
        if arm.start in CHEAP_LEVELS:
            check_installed(arm.start)
