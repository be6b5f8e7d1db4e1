"""What the process takes beyond what PyTorch allocates: the CUDA context, cached blocks."""

from ft_tools.memory.setup import Setup

GIB = 2**30


# CUDA context of one process, GiB: T4 measured 0.1376 (fitcheck, all rows); others are inferred.
CONTEXT_GIB = {"T4": 0.14, "A100": 0.45, "H100": 0.55, "H200": 0.55, "V100": 1.3}


DEFAULT_CONTEXT_GIB = 0.5


# nvidia-smi over max_memory_allocated: lowest and highest ratio seen, by loss head and by whether
# weights are sharded. Slack is largest where full logits come and go.
# Source: fms-acceleration scripts/benchmarks/refs, benchmarks/vram.py prints the spread.
SLACK = {
    ("tiled", False): (1.00, 1.16),
    ("fused_logits", False): (1.00, 1.64),
    ("full_logits", False): (1.02, 1.42),
    ("tiled", True): (1.08, 1.60),
    ("fused_logits", True): (1.08, 1.85),
    ("full_logits", True): (1.08, 1.75),
}


# What MLX holds over its peak: freed buffers that it keeps, after a step of 12 runs on its CPU
# backend; and Python with PyTorch. Source: benchmarks/apple.py.
APPLE_SLACK = (1.0, 1.5)


APPLE_PROCESS_GIB = 0.6


def process_band(setup: Setup, peak: float, width: float, gpu: str | None) -> tuple[float, float]:
    """Return the least and the most that nvidia-smi would show for the process, in bytes.

    Args:
        setup: What is trained.
        peak: Estimated allocation, bytes.
        width: Relative half-width of its interval.
        gpu: Name of the card, for the size of its CUDA context.
    """
    if setup.engine == "mlx":
        low, high = APPLE_SLACK
        return peak * (1 - width) * low, peak * (1 + width) * high + APPLE_PROCESS_GIB * GIB
    head = setup.head.removesuffix("_old")
    kind = head if head in {"full_logits", "fused_logits"} else "tiled"
    low, high = SLACK[kind, setup.num_gpus > 1]
    context = context_gib(gpu) * GIB
    return peak * (1 - width) * low, peak * (1 + width) * high + context


def context_gib(gpu: str | None) -> float:
    """Return the memory that CUDA itself takes on a card, in GiB."""
    for prefix, size in CONTEXT_GIB.items():
        if gpu is not None and prefix.lower() in gpu.lower():
            return size
    return DEFAULT_CONTEXT_GIB
