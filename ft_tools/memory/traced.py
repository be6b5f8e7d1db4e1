"""A profile of the activations of the real class, where a family has no formulas or as a check.

The process that traces (`ft_tools/memory/worker/trace.py`) runs the libraries' classes on tensors
without data; here is what it is asked, and how two or three lengths become any length.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ft_tools.errors import MissingExtra
from ft_tools.memory.bounds import GIB, interval
from ft_tools.memory.phases import phases
from ft_tools.memory.report import SecondOpinion
from ft_tools.memory.setup import Curve, Profile, Setup
from ft_tools.models import library_process
from ft_tools.runs.processes.answers import Unanswered

WORKER = "ft_tools.memory.worker.trace"
SECONDS = 45.0
"""That a call waits for a trace; one that takes longer goes on, for the next call."""
UNENDED = "the trace of its activations has not ended yet: ask again in a minute"
# Two lengths tell a straight line: with FlashAttention every tensor grows with the tokens. They are
# multiples of the chunks (64 to 256) in which linear attention runs. Scores grow with the square.
LENGTHS = (256, 512)
EAGER_LENGTHS = (128, 256, 512)


@dataclass(frozen=True)
class Options:
    """How a step is traced; the words are those of estimate_vram."""

    method: str
    rank: int
    target_modules: str | tuple[str, ...]
    target_parameters: tuple[str, ...]
    excluded: str
    dropout: float
    adapter_bytes: int
    dtype: str
    quantization: str | None
    checkpointing: bool
    autocast: bool
    eager: bool
    flash: bool


def options_of(setup: Setup) -> Options:
    """Return the options that trace what the formulas were asked about."""
    own: dict[str, Any] = {
        "excluded": setup.shape.excluded,
        "dropout": 0.1 if setup.dropout else 0.0,
        "eager": setup.attention == "eager",
        "flash": setup.attention == "flash",
    }
    same = {
        each.name: getattr(setup, each.name) for each in fields(Options) if each.name not in own
    }
    return Options(**same | own)


def profile_of(setup: Setup, config: dict[str, Any]) -> tuple[Profile | None, str]:
    """Trace the class of a config.json as it is trained.

    Takes seconds once for each way to train a model, whatever the batch and the length are.

    Returns:
        The profile and an empty text; None where that is not possible, and the text of UNENDED
        where it only was not possible in time.
    """
    eager = setup.attention == "eager" or (not setup.shape.has_sdpa and setup.attention != "flash")
    lengths = EAGER_LENGTHS if eager else LENGTHS
    question = {"config": config, "options": asdict(options_of(setup)), "lengths": lengths}
    try:
        answer = library_process.ask(WORKER, question, SECONDS)
    except Unanswered as error:
        is_late = error.kind == "timeout"
        return None, UNENDED if is_late else f"the libraries cannot trace it ({error.kind})"
    except MissingExtra as error:
        return None, str(error)
    curves = {
        name: _through([(point["length"], point[name]) for point in answer["points"]])
        for name in ("saved", "forward", "backward", "bottom")
    }
    return Profile(**curves, eager=answer["eager"]), ""


def second_opinion(setup: Setup, config: dict[str, Any]) -> SecondOpinion | str:
    """Compare the formulas with the step as its traced activations have it; else why not."""
    if setup.engine == "mlx":
        return "a Mac trains with MLX, and a trace runs torch"
    if setup.profile is not None:
        return "the estimate itself rests on a trace of this class"
    profile, why_not = profile_of(setup, config)
    if profile is None:
        return why_not
    found, traced = phases(setup), phases(replace(setup, profile=profile))
    difference = found.peak / traced.peak - 1
    sizes = {name: sum(parts.values()) for name, parts in traced.phases.items()}
    return SecondOpinion(
        peak_allocated_gib=round(traced.peak / GIB, 4),
        difference_fraction=round(difference, 5),
        agrees=abs(difference) <= interval(setup, found.dominant).fraction,
        phases={name: round(size / GIB, 4) for name, size in sizes.items()},
    )


def _through(points: list[tuple[int, int]]) -> Curve:
    """Return the straight line through two points, or the parabola through three.

    >>> _through([(256, 1256), (512, 1512)]), _through([(1, 6), (2, 11), (3, 18)])
    (Curve(fixed=1000.0, linear=1.0, square=0.0), Curve(fixed=3.0, linear=2.0, square=1.0))
    """
    (x1, y1), (x2, y2), *more = points
    slope, square = (y2 - y1) / (x2 - x1), 0.0
    for x3, y3 in more:
        square = ((y3 - y2) / (x3 - x2) - slope) / (x3 - x1)
    linear = slope - square * (x1 + x2)
    return Curve(y1 - linear * x1 - square * x1**2, linear, square)
