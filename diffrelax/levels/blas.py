"""The matrix products of PySCF's wheel."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CHOICE = "OPENBLAS_CORETYPE"


@contextmanager
def kernels_for_avx2() -> Iterator[None]:
    """Let an OpenBLAS that is loaded meanwhile take its kernels for AVX2.

    The OpenBLAS in PySCF's wheel (0.3.3) knows no processor made after 2018: on those it takes
    kernels without AVX2, and a gradient call is a third longer. Nothing is changed where the
    processor has no AVX2, or the environment has a choice already.
    """
    has_avx2 = CPUINFO.exists() and {"avx2", "fma"} <= set(CPUINFO.read_text().split())
    if not has_avx2 or CHOICE in os.environ:
        yield
        return
    os.environ[CHOICE] = "Haswell"
    try:
        yield
    finally:
        del os.environ[CHOICE]
