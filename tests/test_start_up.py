"""Starting imports what is asked for, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def output_of(program: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("diffrelax", {"numpy"}),
        ("diffrelax.cli", {"numpy", "torch", "ase", "pydantic"}),
        ("diffrelax.relaxation", {"torch._dynamo", "e3nn", "pyscf", "tblite", "jobflow"}),
        ("diffrelax.flows.run", {"torch", "pyscf", "geometric", "tblite"}),
    ],
)
def test_a_room_imports_only_what_it_needs(module: str, unwanted: set[str]) -> None:
    program = f"import sys, {module}; print(*sorted({unwanted} & sys.modules.keys()))"
    assert output_of(program, dict(os.environ)) == ""


@pytest.mark.parametrize(
    ("chosen", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]
)
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(
    chosen: dict[str, str], found: str
) -> None:
    kept = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    program = "import os, diffrelax; print(os.environ['OMP_WAIT_POLICY'])"
    assert output_of(program, kept | chosen) == found


def test_help_does_without_what_is_slow_to_import() -> None:
    unwanted = {"rich", "importlib.metadata", "numpy", "pydantic"}
    program = (
        "import sys; from typer.testing import CliRunner; from diffrelax.cli import app\n"
        "shown = CliRunner().invoke(app, ['--help'])\n"
        f"assert 'Commands' in shown.output; print(*sorted({unwanted} & sys.modules.keys()))"
    )
    assert output_of(program, dict(os.environ)) == ""
