from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest
from odd_work import work

from diffrelax.files.processes import LOOK_AHEAD, _Pool, _Process, ordered_map


def lost(item: int | str, reason: str) -> str:
    return f"{item}: {reason}"


def test_results_come_in_order_from_other_processes():
    assert list(ordered_map(work, range(50), 3, lost, 60)) == list(range(50))
    pids = set(ordered_map(work, ["pid"] * 40, 2, lost, 60))
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2
    assert set(ordered_map(work, ["pid"], 1, lost, 60)) == {os.getpid()}


def test_a_process_that_dies_costs_one_item():
    items = [1, 2, "die", 3, "abort", *range(4, 20)]
    died = "the process that worked on it crashed"
    expected = [1, 2, f"die: {died}", 3, f"abort: {died}", *range(4, 20)]
    assert list(ordered_map(work, items, 2, lost, 60)) == expected


def test_an_error_is_raised_here_and_costs_no_process():
    results = ordered_map(work, [1, "fail", 2], 2, lost, 60)
    assert next(results) == 1
    with pytest.raises(OSError, match="the disk is full"):
        next(results)


def test_results_do_not_wait_for_later_items():
    def slow() -> Iterator[int]:
        yield 0
        time.sleep(3)
        for number in (1, 2):
            yield number
            time.sleep(0.5)
            read.append(number)

    read: list[int] = []
    results = ordered_map(work, slow(), 2, lost, 60)
    assert next(results) == 0 and read == []
    results.close()


def test_a_process_that_hangs_is_killed():
    begun = time.monotonic()
    results = list(ordered_map(work, [1, "sleep", 2], 2, lost, 2.0))
    assert results == [1, "sleep: it took longer than 2 s", 2]
    assert time.monotonic() - begun < 50


def test_none_starts_or_works_once_it_is_closed(tmp_path):
    items = ["pid", *(tmp_path / str(i) for i in range(8))]
    others = set(threading.enumerate())
    results = ordered_map(work, items, 4, lost, None)
    assert isinstance(next(results), int)
    begun = time.monotonic()
    results.close()
    for thread in set(threading.enumerate()) - others:
        thread.join(30)
    assert time.monotonic() - begun < 20
    assert not any(path.exists() for path in items[1:])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_programs_end_with_the_processes_that_wait_for_them(tmp_path):
    results = ordered_map(work, ["pid", f"run in {tmp_path}"], 2, lost, None)
    assert isinstance(next(results), int)
    written, deadline = tmp_path / "pid", time.monotonic() + 60
    while not (written.exists() and written.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    program = Path(f"/proc/{int(written.read_text())}/stat")
    assert program.exists()
    results.close()
    deadline = time.monotonic() + 10
    while program.exists() and program.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_map_that_the_garbage_collector_closes_as_a_process_starts_ends(monkeypatch):
    start = _Process.__init__

    def collected(process: _Process, function: object) -> None:
        pool.close()
        start(process, function)

    monkeypatch.setattr(_Process, "__init__", collected)
    pool = _Pool(work, 1, lost, None)
    failed = []

    def call() -> None:
        try:
            pool.call("sleep")
        except RuntimeError as error:
            failed.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and failed


@pytest.mark.parametrize("item", ["end of file", "fail"])
def test_an_error_of_the_work_is_not_taken_for_a_dead_process(item):
    results = ordered_map(work, [item], 2, lost, 60)
    with pytest.raises((EOFError, OSError), match="disk"):
        next(results)


HEARD = """
import os, signal, sys, threading, time
from diffrelax.files.processes import ordered_map
from diffrelax.molecule import Molecule
sys.path.append(sys.argv[1])
from odd_work import work
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run behind
    Molecule.from_smiles("C")
    results = ordered_map(work, ["pid", "sleep"], 2, lambda item, reason: reason, 20)
    next(results)
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    try:
        print(next(results))
    except KeyboardInterrupt:
        print(time.monotonic() - begun)
"""


def test_ctrl_c_is_heard_after_an_embedding(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(HEARD)
    command = [sys.executable, script, Path(__file__).parents[1]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 10


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items() -> Iterator[int]:
        for i in count():
            taken.append(i)
            yield i

    results = ordered_map(work, items(), 2, lost, 60)
    assert list(islice(results, 10)) == list(range(10))
    assert len(taken) <= LOOK_AHEAD + 10
    results.close()


def test_processes_end_when_nobody_waits_for_them():
    results = ordered_map(work, ["pid", "sleep", "sleep"], 2, lost, 60)
    pid = next(iter(islice(ordered_map(work, ["pid"] * 3, 2, lost, 60), 1)))
    results.close()
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{pid}")


def test_no_worker_is_an_error():
    with pytest.raises(ValueError, match="0 workers: give 1 or more"):
        list(ordered_map(work, [1], 0, lost, 60))
