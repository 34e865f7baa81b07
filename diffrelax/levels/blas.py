"""The matrix products of PySCF's wheel."""

import os
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def prefer_avx2() -> None:
    """Let OpenBLAS take its kernels for AVX2 where the processor has AVX2 and nothing else is set.

    The OpenBLAS in PySCF's wheel (0.3.3) knows no processor made after 2018: on those it takes
    kernels without AVX2, and a gradient call is a third longer. It looks at the environment when
    PySCF is first imported.
    """
    if CPUINFO.exists() and {"avx2", "fma"} <= set(CPUINFO.read_text().split()):
        os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
