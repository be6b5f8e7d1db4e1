"""Have MLX multiply with scipy's OpenBLAS on Linux, eight times as fast as with its own BLAS.

    python -m benchmarks.fast_blas COMMAND...

runs a command so. mlx-cpu 0.32.4 brings the reference BLAS and calls `cblas_sgemm`; scipy's wheel
has OpenBLAS with `scipy_cblas_sgemm`. A library of one function is compiled with `cc` and preloaded
into the command and all that it starts.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import scipy

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
typedef void (*Multiply)(int, int, int, int, int, int, float, const float *, int, const float *,
                         int, float, float *, int);
void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                 const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc) {
  static Multiply multiply;
  if (!multiply) {
    multiply = (Multiply)dlsym(dlopen(OPENBLAS, RTLD_NOW), "scipy_cblas_sgemm");
    if (!multiply) abort();
  }
  multiply(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
"""


NAMES = ("LD_PRELOAD", "OPENBLAS_NUM_THREADS")


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a process whose MLX is fast; the library is made in a folder."""
    (found,) = (Path(scipy.__file__).parent.parent / "scipy.libs").glob("libscipy_openblas-*.so")
    (folder / "blas.c").write_text(SOURCE)
    made = folder / "blas.so"
    where = f'-DOPENBLAS="{found}"'
    subprocess.run(
        ["cc", "-O2", "-shared", "-fPIC", where, "-o", made, folder / "blas.c", "-ldl"], check=True
    )
    # Threads that wait for each other spin, which costs more than they win where cores are shared.
    return os.environ | dict(zip(NAMES, (str(made), "1"), strict=True))


def main() -> int:
    """Run the command."""
    with tempfile.TemporaryDirectory() as name:
        return subprocess.run(sys.argv[1:], env=environment(Path(name)), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
