"""How long an evaluation takes."""

from collections.abc import Sequence

from ft_tools import facts
from ft_tools.errors import UnknownName
from ft_tools.evaluation.metrics.general import NEW_TOKENS
from ft_tools.evaluation.systems.models import LoadPlan, Models, weight_bytes
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.models.machine import this_machine

# Measured: SmolLM2-135M (269 MB on disk), computed in float32 on 2 shared cores in batches of 32:
# 5,600 tokens in 52 s. Seconds for one token of one sequence, a byte of 16-bit weights.
SECONDS_PER_TOKEN_BYTE = 3.5e-11
LOAD_SECONDS = 15.0


def seconds_of(
    models: Models,
    systems: Sequence[SystemPlan],
    num_prompts: int,
    batch_size: int,
    loading: LoadPlan | None,
) -> float | None:
    """Estimate the time of the models; endpoints and simple baselines are not counted."""
    sizes = {name: weight_bytes(source) for name, source in models.by_name.items()}
    if any(size is None for size in sizes.values()):
        return None
    tokens = dict.fromkeys(sizes, float(num_prompts * NEW_TOKENS))
    for plan in systems:
        if plan.name in tokens:
            tokens[plan.name] += plan.num_questions * plan.max_new_tokens
    total = LOAD_SECONDS * len(sizes)
    for name, size in sizes.items():
        a_token = seconds_per_token(size or 0, batch_size, loading)
        if a_token is None:
            return None
        total += tokens[name] * a_token
    return round(total)


def seconds_per_token(num_bytes: int, batch_size: int, loading: LoadPlan | None) -> float | None:
    """Return about how long one token of one sequence takes; None: the device is not known."""
    if loading is None or loading.on_cpu:
        return num_bytes * SECONDS_PER_TOKEN_BYTE
    step = gpu_step_seconds(num_bytes, loading.device)
    return None if step is None else step / batch_size


def seconds_per_read_token(num_bytes: int, loading: LoadPlan | None) -> float | None:
    """Return about how long a token of a text takes that is only read; None: as above.

    Two operations for each weight, and a 16-bit weight has two bytes.
    """
    if loading is None or loading.on_cpu:
        return num_bytes * SECONDS_PER_TOKEN_BYTE
    flops = _gpu_flops(loading.device)
    return None if flops is None else num_bytes / (flops * facts.number("evaluation.read_fraction"))


def gpu_step_seconds(num_bytes: int, device: str) -> float | None:
    """Return about how long a step of generation takes on a GPU; None: its speed is not known.

    It reads all weights once for the whole batch, and takes at least what starting its kernels
    takes.

    Args:
        num_bytes: Of the weights.
        device: auto, cuda:1 or a UUID.
    """
    flops = _gpu_flops(device)
    if flops is None:
        return None
    bytes_per_second = flops / facts.number("evaluation.flops_per_byte")
    return max(facts.number("evaluation.step_seconds"), num_bytes / bytes_per_second)


def _gpu_flops(device: str) -> float | None:
    """Return the dense 16-bit operations per second of a GPU; None: it is not known."""
    try:
        card = facts.gpu(this_machine(device).cards[0].name)
    except (UnknownName, IndexError):
        return None
    flops = card.bf16_dense_tflops or card.fp16_dense_tflops
    return None if flops is None else flops * 1e12
