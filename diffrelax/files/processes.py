"""A lazy, ordered map over processes; a crash loses only one item."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from queue import SimpleQueue
from threading import RLock
from typing import Any, Generic, TypeVar

from diffrelax.errors import InputError, UnfinishedError

LOOK_AHEAD = 256  # items read in advance; limits memory
LOOK = 0.5  # s between checks while waiting, so that Ctrl-C works, also after an embedding
SAFE_PATH = "PYTHONSAFEPATH"
CAN_FORK = "forkserver" in get_all_start_methods()  # not on Windows
CONTEXT = get_context("forkserver") if CAN_FORK else get_context("spawn")
GRACE = 2.0  # s for a process to end the program that it runs

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    lost: Callable[[Item, str], Result],
    seconds: float | None,
) -> Generator[Result]:
    """Apply a function to items in several processes; yield the results in order.

    Items are taken when needed, at most `LOOK_AHEAD` in advance. The processes are killed when the
    iterator is closed or interrupted.

    Parameters
    ----------
    function : callable
        The function, the items and the results must be picklable.
    items : iterable
    workers : int
        Number of processes; 1 means the current process.
    lost : callable
        Returns the result of an item whose process died or took too long; called with the item and
        the reason.
    seconds : float, s, or None
        Time limit for an item. Ignored with one worker.

    Raises
    ------
    ValueError
        If ``workers`` is less than 1.
    RuntimeError
        If no process can be started.
    """
    check_workers(workers)
    if workers == 1:
        yield from map(function, items)
        return
    pool = _Pool(function, workers, lost, seconds)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.threads.submit(pool.call, item))
            while pending and (len(pending) >= LOOK_AHEAD or pending[0].done()):
                yield _wait(pending.popleft())
        while pending:
            yield _wait(pending.popleft())
    finally:
        pool.close()


def _wait(pending: Future[Result]) -> Result:
    while not pending.done():
        wait([pending], LOOK)
    return pending.result()


def check_workers(workers: int) -> None:
    """Raise ValueError if the number of workers is less than 1."""
    if workers < 1:
        raise InputError(f"{workers} workers: give 1 or more")


class _Pool(Generic[Item, Result]):
    """Processes, each with a thread that waits for it."""

    def __init__(
        self,
        function: Callable[[Item], Result],
        workers: int,
        lost: Callable[[Item, str], Result],
        seconds: float | None,
    ) -> None:
        self.function, self.lost, self.seconds = function, lost, seconds
        self.threads = ThreadPoolExecutor(workers)
        self.idle: SimpleQueue[_Process | None] = SimpleQueue()
        self.started: set[_Process] = set()
        self.starting, self.closed = RLock(), False
        for _ in range(workers):
            self.idle.put(None)

    def call(self, item: Item) -> Result:
        process = self.idle.get()
        try:
            process = process or self.start()
            result: Result | _Failed = process.work(item, self.seconds)
        except _LostError as error:
            assert process is not None
            _end([process])
            self.started.discard(process)
            process = None
            return self.lost(item, str(error))
        finally:
            self.idle.put(process)
        if isinstance(result, _Failed):
            raise result.error
        return result

    def start(self) -> _Process:
        with self.starting:
            if self.closed:
                raise CancelledError
            process = _Process(self.function)
            self.started.add(process)
            if self.closed:  # meanwhile by the garbage collector, in this thread
                _end([process])
        process.wait()
        return process

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
        with self.starting:
            self.closed = True
        _end(list(self.started))


@dataclass(frozen=True)
class _Failed:
    """Sent by a process instead of a result."""

    error: Exception


class _LostError(Exception):
    """A process died or took too long."""


class _Process:
    """A process that applies a function to items."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.connection, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(theirs, function), daemon=True)
        start_server()
        self.process.start()
        theirs.close()

    def wait(self) -> None:
        try:
            self.connection.recv()
        except EOFError:
            raise UnfinishedError(
                "no worker process can start: put the work of your script under "
                'if __name__ == "__main__", or use one worker'
            ) from None

    def work(self, item: object, seconds: float | None) -> Any:
        try:
            self.connection.send(item)
            if self.connection.poll(seconds):
                return self.connection.recv()
        except (EOFError, OSError):
            raise _LostError("the process that worked on it crashed") from None
        raise _LostError(f"it took longer than {seconds:g} s")


def start_server() -> None:
    """Start the fork server without the working folder in its module path."""
    if not CAN_FORK:
        return
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        ensure_running()
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


def _end(processes: Sequence[_Process]) -> None:
    """End processes and the programs that they run."""
    for one in processes:
        one.process.terminate()
    for one in processes:
        one.process.join(GRACE)
        one.process.kill()


def _serve(connection: Connection, function: Callable[..., object]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with suppress(EOFError, ConnectionError):  # the parent was killed
        connection.send("ready")
        while True:
            item = connection.recv()
            try:
                result = function(item)
            except Exception as error:
                result = _Failed(error)
            connection.send(result)
