"""The context length (num_ctx) that a shipped model needs."""

from ft_tools.runs.state import directory

MIN_CONTEXT = 2048
"""Below this a longer context costs next to nothing."""


def context_of(source: str, longest: int, model_context: int | None) -> int:
    """Return the context that is needed: a power of two that training and measuring fit into.

    Args:
        source: What is shipped, as in the request.
        longest: Of the measured prompts with their answers, in tokens.
        model_context: Longest that the model was made for; None: unknown.
    """
    trained = 0
    if directory.RUN_ID.fullmatch(source):
        plan = directory.read_json(directory.find(source) / "plan.json") or {}
        training = plan.get("training")
        trained = int(training.get("max_length") or 0) if isinstance(training, dict) else 0
    wanted = max(MIN_CONTEXT, longest, trained)
    rounded = 1 << (wanted - 1).bit_length()
    return min(rounded, model_context) if model_context else rounded
