"""Start the process that applies a chat template: MODEL_FOLDER MAX_LENGTH CPU_SECONDS; no torch.

Tokenizers and chat templates need no torch, and importing it takes longer than all the rest.
"""

import gc
import os
import sys


def main() -> None:
    """Answer the lines on stdin."""
    # What a library prints must not get into the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    gc.disable()
    # transformers then takes torch for not installed; it would say so in the caller's log.
    sys.modules["torch"] = None  # type: ignore[assignment]
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    from ft_tools.formats.worker.chat_template_with_limits import serve

    gc.freeze()
    gc.enable()
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.stdin, answers)


if __name__ == "__main__":
    main()
