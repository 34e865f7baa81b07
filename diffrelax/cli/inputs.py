"""Reading and checking of the inputs and the model of a command."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Iterator
from io import BufferedReader
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TypeVar, cast

from diffrelax.errors import InputError

if TYPE_CHECKING:
    from diffrelax.clock import Time
    from diffrelax.files.reading import Input, Rejected
    from diffrelax.levels.level import Level
    from diffrelax.models.release import Model
    from diffrelax.molecule import Molecule

STDIN = "-"
FIRST_PART = 8  # inputs
PART_SECONDS = 1.0  # of work, the most that a kill can lose

T = TypeVar("T")


def each_input(inputs: list[str], charge: int | None = None) -> Iterator[Input]:
    """Yield the inputs of a command, not read yet; ``-`` means lines of SMILES.

    `charge` is for geometries without one.

    Raises
    ------
    ValueError
        If there is a charge but no file that needs one, or standard input is given twice.
    """
    from diffrelax.files import check_charge
    from diffrelax.files.reading import each_record, records_in

    check_charge(charge, inputs)
    if inputs.count(STDIN) > 1:
        raise InputError(f"{STDIN} means standard input and can be given only once")
    for given in inputs:
        if given == STDIN:
            lines = cast(BufferedReader, sys.stdin.buffer)
            yield from records_in(lines, "standard input", ".smi")
        else:
            yield from each_record(given, charge)


def count_inputs(inputs: list[str]) -> int | None:
    """Count the inputs of a command; None if they can be read only once, as from a pipe."""
    from diffrelax.files.reading import each_record, is_path

    paths = [Path(given) for given in inputs if is_path(given)]
    if STDIN in inputs or any(path.exists() and not path.is_file() for path in paths):
        return None
    return sum(1 for _ in each_record(inputs))


def load_checked(
    model: str,
    device: str,
    noise_level: float | None,
    max_error: float = math.inf,
    level: str | None = None,
) -> Model:
    """Load a model, and check that it accepts these settings, before the work begins."""
    from diffrelax.models.batches import choose_calibration, choose_schedule
    from diffrelax.models.release import load_model

    loaded = load_model(model, device)
    choose_schedule(loaded, noise_level)
    choose_calibration(loaded, loaded.nearest_level(level).level, noise_level, max_error)
    return loaded


def choose_level(model: Model, level: str | Level) -> str:
    """Return the nearest learned level of a model, and print how it differs."""
    nearest = model.nearest_level(level)
    print(nearest.described(model.name), file=sys.stderr)
    return nearest.level


def read_parts(
    inputs: Iterator[Input],
    size: int,
    *,
    seed: int,
    workers: int = 1,
    max_atoms: int | None = None,
    seconds: float | None = None,
) -> Iterator[list[tuple[Input, Molecule | Rejected, Time]]]:
    """Read inputs in parts; yield each input with its molecule and the reading time.

    Parameters
    ----------
    inputs : iterator
    size : int
        Largest number of inputs in a part. Parts get smaller if reading and processing one takes
        longer than ``seconds``.
    seed, workers, max_atoms
        See `diffrelax.files.reading.each_molecule`.
    seconds : float, optional, s
        Default: one second.
    """
    from diffrelax.clock import timed
    from diffrelax.files.reading import each_molecule

    waiting: deque[Input] = deque()

    def remembered() -> Iterator[Input]:
        for given in inputs:
            waiting.append(given)
            yield given

    read = timed(each_molecule(remembered(), seed=seed, workers=workers, max_atoms=max_atoms))
    seconds = PART_SECONDS if seconds is None else seconds
    begun, at_once = monotonic(), min(size, FIRST_PART)
    while part := list(_within(seconds, islice(read, at_once))):
        yield [(waiting.popleft(), molecule, time) for molecule, time in part]
        now = monotonic()
        fitting = len(part) * seconds / max(now - begun, seconds / 2)  # at most twice as many
        begun, at_once = now, min(size, max(1, round(fitting)))


def _within(seconds: float, several: Iterator[T]) -> Iterator[T]:
    """Yield the first item, and those that follow within a time, s."""
    first = None
    for one in several:
        first = monotonic() if first is None else first
        yield one
        if monotonic() - first >= seconds:
            return
