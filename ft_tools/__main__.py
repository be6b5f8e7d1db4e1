"""The command line: `fine-tuning-llm`, or `python -m ft_tools`."""

import gc

# What is imported stays; collecting garbage meanwhile takes a tenth of the time of `--help`.
gc.disable()

import os
import sys

PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main() -> None:
    """Run a command, with the garbage collector on again."""
    if sys.argv[1:] == ["serve"]:
        # What every client starts: without the command line's own imports.
        ours = os.pathsep.join(filter(None, [PACKAGES, os.environ.get("PYTHONPATH")]))
        argv = [sys.executable, "-P", "-m", "mcp_server"]
        os.execve(argv[0], argv, os.environ | {"PYTHONPATH": ours})
    from ft_tools.cli import main as cli

    gc.freeze()
    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
