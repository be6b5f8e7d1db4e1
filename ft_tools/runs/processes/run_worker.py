"""Run a worker: `python -m ft_tools.runs.processes.run_worker MODULE RUN_DIR`.

Importing torch, transformers and TRL makes a million objects that live as long as the process.
Looking through them for garbage, while they are made and once more at the exit, took a third of
what a start costs (benchmarks/worker_start.json). So the collector starts when the imports are
over: `worker_session.main` turns it on.
"""

import gc
import runpy
import sys


def main() -> None:
    """Run the module named on the command line, with the rest of the arguments."""
    gc.disable()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
