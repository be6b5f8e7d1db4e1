"""Batched generation against the commonly copied loop, one prompt at a time, on SmolLM2.

    python -m benchmarks.evaluate --prompts 200 --tokens 32

Claims: at least 4 times faster on 2 cores, the same text for at least 99% of the prompts, every
other one told from it by a near-tie of logits, and time that grows linearly with the prompts; and
few-shot prompts, whose examples are read once for a batch, at least 2 times faster than without.
Writes evaluate.json beside this file; `--parts few_shot` measures one part and keeps the others.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import torch
import transformers

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.systems.asking import asked_as
from ft_tools.evaluation.systems.models import LoadPlan, model_files
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.evaluation.worker import decoding
from ft_tools.evaluation.worker.loaded_models import LoadedModels
from ft_tools.evaluation.worker.transformers_writer import TransformersWriter
from ft_tools.evaluation.worker.writer import generate_all
from ft_tools.models.demo import HUB_ID
from ft_tools.models.resolve import resolve_model

NEAR_TIE = 1e-2
FEW_SHOT_BATCH = 16
PARTS = ("loop", "few_shot")
TOPICS = ["a late parcel", "a broken lamp", "a double invoice", "a lost password", "a wrong size"]
TONES = ["politely", "angrily", "in one line", "with an order number", "and ask for a refund"]


def prompts(writer: TransformersWriter, count: int) -> list[str]:
    """Render as many different customer requests, of unequal length."""
    asked = [
        f"Write a short message about {TOPICS[i % 5]} {TONES[i // 5 % 5]}. Case {i}."
        + " It happened again this week." * (i % 4)
        for i in range(count)
    ]
    rows = [HeldOut(line=i, messages=[{"role": "user", "content": a}]) for i, a in enumerate(asked)]
    return [writer.render(row, "chat") for row in rows]


def few_shot_prompts(writer: TransformersWriter, count: int, shots: int) -> list[str]:
    """Render as many questions, each after the same examples."""
    pool = [
        HeldOut(
            line=i,
            messages=[{"role": "user", "content": f"Which team handles {topic}? Case {i}."}],
            reference=f"The team for {topic} handles it; it answers within two working days.",
        )
        for i, topic in enumerate(TOPICS)
    ][:shots]
    spec = SystemSpec(name="few-shot", model=HUB_ID, system="Answer with the team's name.")
    asked = [
        HeldOut(
            line=i,
            messages=[{"role": "user", "content": f"Which team handles {TOPICS[i % 5]} no. {i}?"}],
        )
        for i in range(count)
    ]
    return [writer.render(asked_as(spec, one, pool), "chat") for one in asked]


def measure_few_shot(writer: TransformersWriter, count: int, tokens: int) -> dict[str, object]:
    """Time 5-shot prompts with their shared beginning read once for a batch, and read anew."""
    texts = few_shot_prompts(writer, count, 5)
    size = FEW_SHOT_BATCH
    batched(writer, texts[:2], 2, size)
    shared, seconds = batched(writer, texts, tokens, size)
    once = decoding.MIN_SHARED_TOKENS
    decoding.MIN_SHARED_TOKENS = 1 << 30
    try:
        anew, anew_seconds = batched(writer, texts, tokens, size)
    finally:
        decoding.MIN_SHARED_TOKENS = once
    rows = [writer.encode(text) for text in texts]
    differing = [i for i, (a, b) in enumerate(zip(shared, anew, strict=True)) if a != b]
    gaps = {i: gap_where_texts_part(writer, texts[i], anew[i], shared[i]) for i in differing}
    return {
        "prompts": count,
        "new_tokens": tokens,
        "batch_size": size,
        "tokens_per_prompt": round(sum(map(len, rows)) / count),
        "tokens_shared": decoding.shared_tokens(rows),
        "seconds_without": round(anew_seconds, 1),
        "seconds_with": round(seconds, 1),
        "speedup": round(anew_seconds / seconds, 2),
        "equal_fraction": round(1 - len(differing) / count, 4),
        "logit_gaps_where_texts_part": {str(i): round(gap, 6) for i, gap in gaps.items()},
        "load_average": round(os.getloadavg()[0], 1),
    }


def one_at_a_time(writer: TransformersWriter, texts: list[str], tokens: int) -> list[str]:
    """Generate as the commonly copied loop does."""
    found = []
    for text in texts:
        inputs = writer.tokenizer(text, return_tensors="pt", add_special_tokens=False)
        with torch.no_grad():
            made = writer.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        kept = made[0, inputs.input_ids.shape[1] :]
        found.append(writer.tokenizer.decode(kept, skip_special_tokens=True).strip())
    return found


def batched(
    writer: TransformersWriter, texts: list[str], tokens: int, size: int
) -> tuple[list[str], float]:
    """Generate as evaluate does; returns the texts and the seconds."""
    began = time.perf_counter()
    found = [""] * len(texts)
    for indices, outputs, _ in generate_all(writer, texts, tokens, size):
        for i, output in zip(indices, outputs, strict=True):
            found[i] = output.text
    return found, time.perf_counter() - began


@torch.inference_mode()
def gap_where_texts_part(writer: TransformersWriter, prompt: str, one: str, other: str) -> float:
    """Return how far below the best logit the lower of the two chosen tokens is, where they part.

    Read one prompt at a time, without a cache. A text that ends goes on with the end token.
    """
    end = [writer.tokenizer.eos_token_id]
    first, second = (writer.encode(prompt + text) + end for text in (one, other))
    at = next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    logits = writer.model(input_ids=torch.tensor([first[:at]])).logits[0, -1].float()
    return float(logits.max() - logits[[first[at], second[at]]].min())


def main() -> None:
    """Run both and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    in_float32 = LoadPlan(place="cpu", dtype="float32", num_bytes=0)
    writer = LoadedModels(in_float32, []).writer(model_files(resolve_model(HUB_ID)))
    assert isinstance(writer, TransformersWriter)
    path = Path(__file__).with_suffix(".json")
    result = json.loads(path.read_bytes()) if path.is_file() else {}
    if "loop" in arguments.parts:
        result |= measure_loop(writer, arguments)
    if "few_shot" in arguments.parts:
        result["few_shot"] = measure_few_shot(writer, 32, 8)
    text = json.dumps(result, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    print(text)


def measure_loop(writer: TransformersWriter, arguments: argparse.Namespace) -> dict[str, object]:
    """Time batches against one prompt at a time."""
    texts = prompts(writer, arguments.prompts)
    tokens, size = arguments.tokens, arguments.batch_size
    batched(writer, texts[:2], 2, size)
    one_at_a_time(writer, texts[:1], 2)
    growth = {}
    for count in (len(texts) // 4, len(texts) // 2, len(texts)):
        ours, growth[count] = batched(writer, texts[:count], tokens, size)
    seconds = growth[len(texts)]
    began = time.perf_counter()
    loop = one_at_a_time(writer, texts, tokens)
    loop_seconds = time.perf_counter() - began
    differing = [i for i, (a, b) in enumerate(zip(ours, loop, strict=True)) if a != b]
    gaps = {i: gap_where_texts_part(writer, texts[i], loop[i], ours[i]) for i in differing}
    return {
        "claim": "batched generation is at least 4 times faster, with the same texts",
        "model": HUB_ID,
        "dtype": "float32",
        "prompts": len(texts),
        "new_tokens": tokens,
        "batch_size": size,
        "loop_seconds": round(loop_seconds, 1),
        "batched_seconds": round(seconds, 1),
        "speedup": round(loop_seconds / seconds, 2),
        "equal_fraction": round(1 - len(differing) / len(texts), 4),
        "logit_gaps_where_texts_part": {str(i): round(gap, 6) for i, gap in gaps.items()},
        "every_difference_is_a_near_tie": all(gap < NEAR_TIE for gap in gaps.values()),
        "seconds_by_prompts": {str(count): round(value, 1) for count, value in growth.items()},
        "growth_when_doubled": round(seconds / growth[len(texts) // 2], 2),
        "machine": f"{arguments.threads} threads of {os.cpu_count()} cores, {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 1),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


if __name__ == "__main__":
    main()
