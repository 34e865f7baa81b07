"""What is not everywhere: modules of Unix, packages without a version for Windows, UTF-8."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT

HIDE = """
import os, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios", "pyscf", "tblite"):
    sys.modules[name] = None
del os.killpg
"""
WITHOUT_PYSCF = """
from ase.build import molecule
from ase.calculators.emt import EMT
from diffrelax import TRIC, relax_dft
result = relax_dft("[H][H]", calculator=EMT(), hessian="none", checkpoint="state")
atoms = molecule("H2", calculator=EMT())
optimizer = TRIC(atoms, logfile=None)
print(result.converged, optimizer.run(fmax=0.03, steps=50), *optimizer.notes)
"""
LEAVES_PYSCF_AND_TBLITE_ALONE = """
import importlib, pkgutil
import diffrelax
from diffrelax.extras import NotInstalledError
for module in pkgutil.walk_packages(diffrelax.__path__, "diffrelax."):
    if module.name != "diffrelax.__main__":
        try:
            importlib.import_module(module.name)
        except NotInstalledError:
            print(module.name)
"""


def run(program: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        encoding="utf-8",
    )


def command(*arguments: str) -> str:
    """Return a program that runs a command where they are hidden."""
    start = f"from diffrelax.__main__ import main\nsys.argv[1:] = {arguments}\nmain()"
    return HIDE + start


def test_molecules_are_relaxed_without_them(tmp_path: Path) -> None:
    done = run(command("relax", "CC(=O)OC", "-o", "relaxed.extxyz"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "relaxed.extxyz").stat().st_size > 500


def test_ase_calculators_are_taken_without_them(tmp_path: Path) -> None:
    done = run(HIDE + WITHOUT_PYSCF, tmp_path)
    assert done.returncode == 0, done.stderr
    note = "no gfn2-xtb Hessian, the optimizer's own guess instead: gfn2-xtb needs tblite"
    assert done.stdout.startswith(f"True True {note}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dft", "O", "-o", "a.extxyz"), "PySCF is not installed: pip install pyscf, in WSL on"),
        (("conformers", "O", "--level", "gfn2-xtb", "-o", "a.extxyz"), "gfn2-xtb needs tblite"),
    ],
)
def test_what_needs_them_says_so(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = run(command(*arguments), tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_only_what_calculates_with_pyscf_and_tblite_imports_them(tmp_path: Path) -> None:
    done = run(HIDE + LEAVES_PYSCF_AND_TBLITE_ALONE, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {
        name.rpartition(".")[0].removesuffix(".fast_pyscf") for name in done.stdout.split()
    } == {"diffrelax.levels"}


def test_text_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("CC(=O)OC Äther\n", encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = run(command("relax", "a.smi", "-o", "a.extxyz"), tmp_path, **ascii_only)
    assert done.returncode == 0, done.stderr
    assert "Äther" in (tmp_path / "a.extxyz").read_text(encoding="utf-8")


def is_text_of_any_encoding(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if isinstance(call.func, ast.Attribute) and name == "read_text":
        return not call.args
    if isinstance(call.func, ast.Attribute) and name == "write_text":
        return len(call.args) < 2
    if name != "open" or ast.unparse(call.func) == "os.open":
        return False
    mode = call.args[isinstance(call.func, ast.Name) :][:1]
    return not (mode and isinstance(mode[0], ast.Constant) and "b" in str(mode[0].value))


def test_text_files_name_their_encoding() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in sorted(ROOT.glob("diffrelax/**/*.py"))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and is_text_of_any_encoding(call)
    ]
    assert found == []
