"""Our batched decoding against `generate` of transformers, in the same batches, on SmolLM2.

    python -m benchmarks.evaluate

Both continue the same prompts greedily in turns, so that the machine's load meets both. Claims: the
same texts but for near-ties of logits, and at least 1.5 times as fast where answers differ in
length or prompts share their beginning. Writes evaluate.json beside this file.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import transformers
from transformers import GenerationConfig

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.systems.asking import asked_as
from ft_tools.evaluation.systems.models import LoadPlan, model_files
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.evaluation.worker.loaded_models import LoadedModels
from ft_tools.evaluation.worker.transformers_writer import TransformersWriter
from ft_tools.models.demo import HUB_ID
from ft_tools.models.resolve import resolve_model

TOPICS = ["a late parcel", "a broken lamp", "a double invoice", "a lost password", "a wrong size"]
UNEQUAL = (
    "What is the capital of France?",
    "Say yes {}.",
    "Count from 1 to {}.",
    "Tell me a story.",
)
Generate = Callable[[TransformersWriter, list[str], int], list[str]]


def chats(writer: TransformersWriter, asked: list[str]) -> list[str]:
    """Render questions as conversations."""
    rows = [HeldOut(line=i, messages=[{"role": "user", "content": a}]) for i, a in enumerate(asked)]
    return [writer.render(row, "chat") for row in rows]


def alike(writer: TransformersWriter, count: int) -> list[str]:
    """Return requests whose answers all reach the limit."""
    asked = [f"Write a short message about {TOPICS[i % 5]}. Case {i}." for i in range(count)]
    return chats(writer, [text + " It happened again." * (i % 4) for i, text in enumerate(asked)])


def unequal(writer: TransformersWriter, count: int) -> list[str]:
    """Return questions whose answers end early or late."""
    return chats(writer, [UNEQUAL[i % 4].format(i) for i in range(count)])


def few_shot(writer: TransformersWriter, count: int) -> list[str]:
    """Return questions that all follow the same five examples."""
    pool = [
        HeldOut(
            line=i,
            messages=[{"role": "user", "content": f"Which team handles {topic}? Case {i}."}],
            reference=f"The team for {topic} handles it; it answers within two working days.",
        )
        for i, topic in enumerate(TOPICS)
    ]
    spec = SystemSpec(name="few-shot", model=HUB_ID, system="Answer with the team's name.")
    asked = [f"Which team handles {TOPICS[i % 5]} no. {i}?" for i in range(count)]
    rows = [HeldOut(line=i, messages=[{"role": "user", "content": a}]) for i, a in enumerate(asked)]
    return [writer.render(asked_as(spec, row, pool), "chat") for row in rows]


def ours(writer: TransformersWriter, texts: list[str], tokens: int) -> list[str]:
    """Continue a batch as evaluate does."""
    return [output.text for output in writer.generate(texts, tokens)]


@torch.inference_mode()
def by_generate(writer: TransformersWriter, texts: list[str], tokens: int) -> list[str]:
    """Continue a batch by `generate`, padded on the left."""
    rows, pad = [writer.encode(text) for text in texts], writer.ends[0]
    width = max(map(len, rows))
    config = GenerationConfig(
        do_sample=False, max_new_tokens=tokens, eos_token_id=writer.ends, pad_token_id=pad
    )
    made = writer.model.generate(
        input_ids=torch.tensor([[pad] * (width - len(row)) + row for row in rows]),
        attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
        generation_config=config,
    )
    return [writer._output(row).text for row in made[:, width:].tolist()]


def timed(
    generate: Generate, writer: TransformersWriter, texts: list[str], tokens: int, size: int
) -> tuple[list[str], float]:
    """Continue all texts in batches of similar length; returns the texts and the seconds."""
    began, found = time.perf_counter(), [""] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    for batch in (order[i : i + size] for i in range(0, len(order), size)):
        made = generate(writer, [texts[i] for i in batch], tokens)
        for i, text in zip(batch, made, strict=True):
            found[i] = text
    return found, time.perf_counter() - began


def paired(
    writer: TransformersWriter, texts: list[str], tokens: int, size: int, rounds: int
) -> dict[str, object]:
    """Time both in turns; the ratio of each round is of neighbours in time."""
    ratios, found = [], dict[Generate, list[str]]()
    for number in range(rounds):
        seconds = {}
        for generate in (ours, by_generate) if number % 2 else (by_generate, ours):
            found[generate], seconds[generate] = timed(generate, writer, texts, tokens, size)
        ratios.append(round(seconds[by_generate] / seconds[ours], 2))
    one, other = found[ours], found[by_generate]
    differing = [i for i in range(len(texts)) if one[i] != other[i]]
    gaps = [gap_where_texts_part(writer, texts[i], one[i], other[i]) for i in differing]
    return {
        "prompts": len(texts),
        "max_new_tokens": tokens,
        "batch_size": size,
        "speedups": ratios,
        "median_speedup": median(ratios),
        "equal_fraction": round(1 - len(differing) / len(texts), 4),
        "largest_gap_of_logits": max(gaps, default=0.0),
    }


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
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    in_float32 = LoadPlan(place="cpu", dtype="float32", num_bytes=0)
    writer = LoadedModels(in_float32, []).writer(model_files(resolve_model(HUB_ID)))
    assert isinstance(writer, TransformersWriter)
    cases = {
        "answers of equal length": (alike(writer, 32), 64, 32),
        "answers of unequal length": (unequal(writer, 32), 128, 32),
        "few-shot, shared beginning": (few_shot(writer, 32), 8, 16),
    }
    for generate in (ours, by_generate):
        timed(generate, writer, cases["few-shot, shared beginning"][0][:2], 2, 2)
    result = {
        "model": HUB_ID,
        "dtype": "float32",
        "cases": {name: paired(writer, *case, arguments.rounds) for name, case in cases.items()},
        "machine": f"{arguments.threads} threads of {os.cpu_count()} cores, {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 1),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    text = json.dumps(result, indent=1)
    Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
