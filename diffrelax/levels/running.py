"""Running of external programs in a folder, ended when the caller is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from math import inf
from pathlib import Path

from ase.calculators.calculator import CalculationFailed

GRACE = 5.0  # s, for a program to end after SIGTERM
KILLS = [kill for kill in signal.Signals if kill.name in ("SIGKILL", "SIGTERM")]
SHELL_SIGNAL = 128  # added to a signal by a shell script that ran the program


class KilledError(CalculationFailed):
    """A program was killed from outside, usually for lack of memory; another try may succeed."""


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

    On interruption or timeout, the program and its child processes are ended.

    Parameters
    ----------
    words : sequence of str
        The program and its arguments.
    folder : path
        Working folder; standard error is written to the file ``stderr`` there.
    stdin, stdout : str
        Names of files in that folder.
    environment : mapping of str to str, optional
        Environment variables to add.
    seconds : float, s
        Time limit.

    Raises
    ------
    subprocess.TimeoutExpired
        If the program exceeds the time limit.
    KilledError
        If it was killed from outside (SIGKILL, SIGTERM).
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
            start_new_session=True,  # so that child processes can be ended
        )
        try:
            status = process.wait(seconds)  # polls, so that Ctrl-C works
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
    with suppress(ProcessLookupError):  # the group has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
