"""Print what the installed torch was built for, in a process of its own: JSON on stdout."""

import json
import sys

import torch


def main() -> None:
    """Answer; a torch without CUDA names no architectures."""
    flags = getattr(torch._C, "_cuda_getArchFlags", lambda: None)()
    built = {
        "version": str(torch.__version__),
        "cuda": torch.version.cuda or "",
        "architectures": (flags or "").split(),
    }
    sys.stdout.write(json.dumps(built))


if __name__ == "__main__":
    main()
