"""Wall time and processor time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Time:
    """A point in time, or a duration.

    Parameters
    ----------
    wall : float, s
        Wall-clock time.
    processor : float, s
        User and system time of all threads of this process, and of the programs that it ran and
        that have ended (except on Windows). For one thread, about the wall time on an idle core.
    """

    wall: float = 0.0
    processor: float = 0.0

    @classmethod
    def now(cls) -> Time:
        """Return the current time; only differences are meaningful."""
        here = os.times()
        programs = here.children_user + here.children_system
        return cls(time.perf_counter(), time.process_time() + programs)

    @classmethod
    def of_thread(cls) -> Time:
        """Return the current time with the processor time of this thread alone."""
        return cls(time.perf_counter(), time.thread_time())

    def __add__(self, other: Time) -> Time:
        return Time(self.wall + other.wall, self.processor + other.processor)

    def __sub__(self, other: Time) -> Time:
        return Time(self.wall - other.wall, self.processor - other.processor)

    def __truediv__(self, parts: float) -> Time:
        return Time(self.wall / parts, self.processor / parts)


NO_TIME = Time()


def timed(items: Iterable[T]) -> Iterator[tuple[T, Time]]:
    """Yield each item with the time that it took to get it."""
    begun = Time.now()
    for item in items:
        yield item, Time.now() - begun
        begun = Time.now()
