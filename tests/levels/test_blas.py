import os
import subprocess
import sys

import pytest

from diffrelax.levels import blas

KERNELS = """
import importlib, sys
importlib.import_module(sys.argv[1])
from diffrelax.levels.blas import pyscf_kernels
print(pyscf_kernels())
"""


@pytest.mark.skipif(
    not blas.CPUINFO.exists() or " avx2 " not in blas.CPUINFO.read_text(),
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
    monkeypatch.setattr(blas, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    if already:
        monkeypatch.setenv("OPENBLAS_CORETYPE", already)
    with blas.kernels_for_avx2():
        assert os.environ.get("OPENBLAS_CORETYPE") == chosen
    assert os.environ.get("OPENBLAS_CORETYPE") == already
