"""The command line: `fine-tuning-llm`, or `python -m ft_tools`."""

import gc

# What is imported stays; collecting garbage meanwhile takes a tenth of the time of `--help`.
gc.disable()

from ft_tools import cli


def main() -> None:
    """Run a command, with the garbage collector on again."""
    gc.freeze()
    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
