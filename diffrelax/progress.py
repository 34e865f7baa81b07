"""Progress on standard error: a bar on a terminal, otherwise lines for what takes long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from threading import Event, Thread
from typing import Any

from tqdm import tqdm

BETWEEN_REFRESHES, BETWEEN_LINES = 1.0, 10.0  # s
FIRST = 5.0  # s, until the first line
LINE = "{desc}{n_fmt}/{total_fmt} {unit}, {elapsed} elapsed, {remaining} left{postfix}"


class _Lines(tqdm):
    """A bar for pipes and files, shown only by `print_line`."""

    def refresh(self, *_: Any, **__: Any) -> None:
        pass

    clear = display = refresh

    def print_line(self) -> None:
        known = str(self).replace("/?", "").replace(", ? left", "")
        print(known, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(
    total: float | None = None,
    unit: str = "it",
    desc: str | None = None,
    *,
    show: bool = True,
    **options: Any,
) -> Iterator[tqdm]:
    """Show the progress of some work and the time left.

    The elapsed time is updated during long steps.

    Parameters
    ----------
    total : float, optional
        Number of steps, if known. It may be set later, see `tqdm.total`.
    unit : str
        Name of a step.
    desc : str, optional
        Text before the bar.
    show : bool
    **options
        Of tqdm.

    Yields
    ------
    tqdm
        To be updated.
    """
    given: dict[str, Any] = {"total": total, "unit": unit, "desc": f"{desc}: " if desc else None}
    given |= {"miniters": 1, **options}  # or a burst of found steps would decide the time left
    if not show:
        yield tqdm(disable=True, **given)
        return
    bar: tqdm
    act: Callable[[], object]
    if sys.stderr.isatty():
        bar = tqdm(**given)
        seconds, act = BETWEEN_REFRESHES, bar.refresh
    else:
        bar = lines = _Lines(bar_format=LINE, file=StringIO(), **given)
        seconds, act = BETWEEN_LINES, lines.print_line
    with bar, _every(seconds, act):
        yield bar


@contextmanager
def _every(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Call a function repeatedly in a thread while the block runs."""
    ended = Event()

    def tick() -> None:
        pause = min(FIRST, seconds)
        while not ended.wait(pause):
            act()
            pause = seconds

    ticking = Thread(target=tick, daemon=True)
    ticking.start()
    try:
        yield
    finally:
        ended.set()
        ticking.join()
