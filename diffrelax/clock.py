"""Time spent, by the clock on the wall and by the processors."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Time:
    """A moment, or the time between two of them.

    Parameters
    ----------
    wall : float, s
        Other processes on the machine count in it.
    processor : float, s
        User and system time of this process, all threads together, and of the programs that it ran
        and that have ended (on Windows without these programs). For work on one thread, about what
        the wall time is on an idle core.
    """

    wall: float = 0.0
    processor: float = 0.0

    @classmethod
    def now(cls) -> Time:
        """Return this moment; only differences mean something."""
        here = os.times()
        programs = here.children_user + here.children_system
        return cls(time.perf_counter(), time.process_time() + programs)

    @classmethod
    def of_thread(cls) -> Time:
        """Return this moment of this thread, whose processor time is its own alone."""
        return cls(time.perf_counter(), time.thread_time())

    def __add__(self, other: Time) -> Time:
        return Time(self.wall + other.wall, self.processor + other.processor)

    def __sub__(self, other: Time) -> Time:
        return Time(self.wall - other.wall, self.processor - other.processor)

    def __truediv__(self, parts: float) -> Time:
        return Time(self.wall / parts, self.processor / parts)


NO_TIME = Time()


def timed(items: Iterable[T]) -> Iterator[tuple[T, Time]]:
    """Yield items with the time that it took to get each of them."""
    begun = Time.now()
    for item in items:
        yield item, Time.now() - begun
        begun = Time.now()
