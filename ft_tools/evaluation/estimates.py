"""Estimate how long an evaluation takes."""

from collections.abc import Mapping, Sequence

from ft_tools import facts
from ft_tools.errors import UnknownName
from ft_tools.evaluation.systems.models import LoadPlan, Models, weight_bytes
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.metrics.general import NEW_TOKENS
from ft_tools.models.machine import this_machine
from ft_tools.models.mlx import is_apple_silicon

# Measured: SmolLM2-135M (269 MB on disk), computed in float32 on 2 shared cores in batches of 32:
# 5,600 tokens in 52 s. Seconds for one token of one sequence, a byte of 16-bit weights.
SECONDS_PER_TOKEN_BYTE = 3.5e-11
# MLX on a Linux CPU: 3.0e9 operations per second (benchmarks/fast_blas.json), two for each 16-bit
# weight.
MLX_SECONDS_PER_TOKEN_BYTE = 3.3e-10
Range = tuple[float, float]
"""The shortest and the longest time that is likely, in seconds."""
# Of a process that starts and of a model that is loaded; on one's own machine and on a busy one.
START_SECONDS: Range = (3.0, 15.0)
LOAD_SECONDS: Range = (3.0, 15.0)
# scikit-learn is imported and learns once, whatever the number of questions.
SIMPLE_SECONDS: Range = (2.0, 15.0)
# A hosted API's answer, from a few words to a page.
CALL_SECONDS: Range = (0.3, 10.0)
# Answers may end after a quarter of their longest length; machines differ by twice at least.
SHORTEST_FRACTION, SLOWER = 0.25, 2.0


def estimate_seconds(
    models: Models,
    systems: Sequence[SystemPlan],
    num_prompts: int,
    batch_size: int,
    loading: LoadPlan | None,
    concurrency: Mapping[str, int],
) -> Range | None:
    """Estimate the time of all answers.

    Args:
        models: Those that are loaded here.
        systems: All systems; questions that are answered already take no time.
        num_prompts: Questions of the general suite, for each model.
        batch_size: Prompts answered together.
        loading: Where models are loaded.
        concurrency: Endpoint -> requests at a time.

    Returns:
        The range; None if a model's size or its device is not known.
    """
    pending = {plan.name: plan for plan in systems if plan.num_questions}
    parts = [START_SECONDS]
    if any(plan.kind not in {"model", "endpoint"} for plan in pending.values()):
        parts.append(SIMPLE_SECONDS)
    for name, at_once in concurrency.items():
        rounds = -(-pending[name].num_questions // at_once) if name in pending else 0
        parts.append((CALL_SECONDS[0] * rounds, CALL_SECONDS[1] * rounds))
    for name, source in models.by_name.items():
        size = weight_bytes(source)
        per_token = None if size is None else seconds_per_token(size, batch_size, loading)
        if size is None or per_token is None:
            return None
        plan = pending.get(name)
        tokens = num_prompts * NEW_TOKENS
        tokens += plan.num_questions * plan.max_new_tokens if plan else 0
        read = plan.estimated_input_tokens if plan else 0
        seconds = tokens * per_token + read * (seconds_per_read_token(size, loading) or 0.0)
        if tokens:
            parts += [LOAD_SECONDS, (SHORTEST_FRACTION * seconds, SLOWER * seconds)]
    return float(round(sum(low for low, _ in parts))), float(round(sum(high for _, high in parts)))


def seconds_per_token(num_bytes: int, batch_size: int, loading: LoadPlan | None) -> float | None:
    """Return about how long one token of one sequence takes; None: the device is not known."""
    if loading is not None and not loading.on_cpu and not loading.on_mlx:
        step = gpu_step_seconds(num_bytes, loading.device)
        return None if step is None else step / batch_size
    return _seconds_on_cpu(num_bytes, loading)


def seconds_per_read_token(num_bytes: int, loading: LoadPlan | None) -> float | None:
    """Return about how long a token of a prompt takes; None: the device is not known.

    Two operations for each weight, and a 16-bit weight has two bytes.
    """
    if loading is not None and not loading.on_cpu and not loading.on_mlx:
        flops = _gpu_flops(loading.device)
        rate = facts.number("evaluation.read_fraction")
        return None if flops is None else num_bytes / (flops * rate)
    return _seconds_on_cpu(num_bytes, loading)


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


def _seconds_on_cpu(num_bytes: int, loading: LoadPlan | None) -> float | None:
    if loading is not None and loading.on_mlx:
        # No Mac was measured.
        return None if is_apple_silicon() else num_bytes * MLX_SECONDS_PER_TOKEN_BYTE
    return num_bytes * SECONDS_PER_TOKEN_BYTE


def _gpu_flops(device: str) -> float | None:
    """Return the dense 16-bit operations per second of a GPU; None: it is not known."""
    try:
        card = facts.gpu(this_machine(device).cards[0].name)
    except (UnknownName, IndexError):
        return None
    flops = card.bf16_dense_tflops or card.fp16_dense_tflops
    return None if flops is None else flops * 1e12
