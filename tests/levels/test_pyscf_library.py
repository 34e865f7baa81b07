import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffrelax.levels import pyscf_library

KERNELS = """
import importlib, sys
importlib.import_module(sys.argv[1])
from diffrelax.levels.pyscf_library import pyscf_kernels
print(pyscf_kernels())
"""


@pytest.mark.skipif(
    not pyscf_library.CPUINFO.exists() or " avx2 " not in pyscf_library.CPUINFO.read_text(),
    reason="only for processors with AVX2",
)
@pytest.mark.parametrize(
    "first",
    ["diffrelax.levels.density_functional", "diffrelax.levels.basis", "diffrelax.levels.pople",
     "diffrelax.benchmark.speedup.units"],
)  # fmt: skip
def test_pyscf_takes_kernels_for_avx2(first):
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    command = [sys.executable, "-c", KERNELS, first]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    if result.stdout == "\n":
        pytest.skip("this PySCF was built with another BLAS")
    assert result.stdout.strip() in ("Haswell", "Zen")


def test_nothing_of_the_working_folder_is_run(tmp_path):
    """PySCF runs its settings, and a server of processes imports what lies there."""
    for name in (".pyscf_conf.py", "random.py", "signal.py"):
        (tmp_path / name).write_text("raise SystemExit('it ran')")
    (tmp_path / "in.smi").write_text("CO\nCC\n")
    program = Path(sys.executable).with_name("diffrelax")
    for command in (
        ("conformers", "CO", "--level", "mmff94", "-n", "2"),
        ("relax", "in.smi", "--workers", "2"),
    ):
        subprocess.run([program, *command], cwd=tmp_path, capture_output=True, check=True)


@pytest.mark.parametrize(
    ("flags", "already", "chosen"),
    [
        ("flags : sse2 avx avx2 fma", None, "Haswell"),
        ("flags : sse2 avx avx2 fma", "Zen", "Zen"),
        ("flags : sse2 avx", None, None),
    ],
)
def test_kernels_suit_the_processor_and_the_user(tmp_path, monkeypatch, flags, already, chosen):
    (tmp_path / "cpuinfo").write_text(flags + "\n")
    monkeypatch.setattr(pyscf_library, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    if already:
        monkeypatch.setenv("OPENBLAS_CORETYPE", already)
    with pyscf_library.loading_pyscf():
        assert os.environ.get("OPENBLAS_CORETYPE") == chosen
    assert os.environ.get("OPENBLAS_CORETYPE") == already
