"""Have MLX multiply with scipy's OpenBLAS on Linux, many times as fast as with its own BLAS.

    python -m benchmarks.fast_blas COMMAND...

runs a command so; without one, both are measured and fast_blas.json is written. mlx-cpu 0.32.4
brings the reference BLAS and calls `cblas_sgemm`; scipy's wheel has OpenBLAS with
`scipy_cblas_sgemm`. A library of one function is compiled with `cc` and preloaded into the command
and all that it starts.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
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


# Of the shapes of SmolLM2-135M's MLP; the median of five.
PRODUCT = """
import statistics, time
import mlx.core as mx
a, b = mx.random.normal((512, 576)), mx.random.normal((576, 1536))
mx.eval(a, b)
seconds = []
for _ in range(5):
    began = time.perf_counter()
    mx.eval(a @ b)
    seconds.append(time.perf_counter() - began)
print(2 * 512 * 576 * 1536 / statistics.median(seconds) / 1e9)
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


def measured(env: Mapping[str, str]) -> float:
    """Return the billions of operations a second of a product in float32."""
    asked = [sys.executable, "-c", PRODUCT]
    done = subprocess.run(asked, env=env, check=True, capture_output=True, text=True)
    return round(float(done.stdout), 1)


def main() -> int:
    """Run the command, or measure."""
    with tempfile.TemporaryDirectory() as name:
        env = environment(Path(name))
        if sys.argv[1:]:
            return subprocess.run(sys.argv[1:], env=env, check=False).returncode
        result = {
            "claim": "MLX multiplies several times as fast with scipy's OpenBLAS, one thread",
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "versions": {each: importlib.metadata.version(each) for each in ("mlx-cpu", "scipy")},
            "load_average": round(os.getloadavg()[0], 1),
            "gflops": {"own": measured(os.environ), "openblas": measured(env)},
        }
    text = json.dumps(result, indent=1)
    Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
