"""Progress that is seen on a terminal and through a pipe."""

import os
import pty
import re
import sys
import termios
import time

import diffrelax.progress
from diffrelax.progress import progress_bar


def test_through_a_pipe_there_is_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(diffrelax.progress, "BETWEEN_LINES", 0.05)
    with progress_bar(4, "mol", "search", initial=1) as bar:
        bar.update()
        time.sleep(0.3)  # a step that takes long
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1 and lines[0].startswith("search: 2/4 mol, 00:0")
    with progress_bar(4, show=False) as bar:
        bar.update()
    assert capsys.readouterr().err == ""


def test_the_first_line_comes_soon_and_has_what_is_known(capsys, monkeypatch):
    monkeypatch.setattr(diffrelax.progress, "FIRST", 0.05)
    for total in (4, None):
        with progress_bar(total, "mol", "search"):
            time.sleep(0.3)
    counted, uncounted = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"search: 0/4 mol, 00:0\d elapsed", counted)
    assert re.fullmatch(r"search: 0 mol, 00:0\d elapsed", uncounted)


def test_short_work_prints_nothing_through_a_pipe(capsys):
    with progress_bar(4, "mol"):
        time.sleep(1.2)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_there_is_a_bar_whose_clock_runs_on(monkeypatch):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    monkeypatch.setattr(diffrelax.progress, "BETWEEN_REFRESHES", 0.05)
    with open(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with progress_bar(2, "mol"):
            time.sleep(0.3)
    text = os.read(ours, 10_000).decode()
    os.close(ours)
    assert text.count("0/2") > 2
