"""Programs that run in a folder, and end with what waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from math import inf
from pathlib import Path

from ase.calculators.calculator import CalculationFailed

GRACE = 5.0  # s, for a program that is told to end
KILLS = [kill for kill in signal.Signals if kill.name in ("SIGKILL", "SIGTERM")]
SHELL_SIGNAL = 128  # is added to a signal, where a script ran the program


class KilledError(CalculationFailed):
    """A program was killed from outside, mostly for memory: it may not happen again."""


def run_program(
    words: Sequence[str],
    folder: Path,
    *,
    stdin: str | None = None,
    stdout: str = "stdout",
    environment: Mapping[str, str] | None = None,
    seconds: float = inf,
) -> int:
    """Run a program in a folder, without a shell, and return its status.

    When it is interrupted, or takes too long, it is ended, and what it has started is, too.

    Parameters
    ----------
    words : sequence of str
        The program and its arguments.
    folder : path
        Where it runs, and where the file ``stderr`` has its complaints.
    stdin, stdout : str
        Files in that folder.
    environment : mapping of str to str, optional
        Variables besides those that are set.
    seconds : float, s
        How long it may take.

    Raises
    ------
    subprocess.TimeoutExpired
        If it takes longer.
    KilledError
        If something else ended it.
    """
    with ExitStack() as stack:
        given = stack.enter_context((folder / stdin).open("rb")) if stdin else subprocess.DEVNULL
        output = stack.enter_context((folder / stdout).open("wb"))
        errors = stack.enter_context((folder / "stderr").open("wb"))
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=os.environ | (environment or {}),
            stdin=given,
            stdout=output,
            stderr=errors,
            start_new_session=True,  # so that all that it starts can be ended
        )
        try:
            status = process.wait(seconds)  # by looking now and then, so that Ctrl-C is heard
        finally:
            _end(process)
    for kill in KILLS:
        if status in (-kill, SHELL_SIGNAL + kill):
            raise KilledError(
                f"{Path(words[0]).name} was killed ({kill.name}), perhaps because it ran "
                "out of memory"
            )
    return status


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    if not hasattr(os, "killpg"):  # Windows
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True)
        process.wait()
        return
    os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):  # where nothing of the group is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
