"""Write the tables of references/, out of benchmarks/*.json and ft_tools/facts/*.toml.

    python -m benchmarks.tables            # after a measurement or a changed fact

A table stands between `<!-- table NAME, from FILE -->` and `<!-- end of NAME -->`. A test compares
what stands there with what this would write (tests/test_tables.py).
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from ft_tools import anti_patterns, facts
from ft_tools.advice import ladder
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.lora.choices import choose_learning_rate
from ft_tools.memory.bounds import usable_gib
from ft_tools.runs.hardware.devices import Device
from ft_tools.training.checks import memory
from ft_tools.training.training_plan import Estimate, ModelPlan, TrainingPlan

ROOT = Path(__file__).parent.parent
TABLE = re.compile(r"(<!-- table (\w+), from [\w./]+ -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
MB = 10**6
LAUNCHES = {"launch_sft", "launch_dpo", "launch_grpo"}


def fill(text: str) -> str:
    """Return a document with each of its tables written anew.

    Raises:
        KeyError: A table has a name that nothing here makes.
    """
    return TABLE.sub(lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n{match[3]}", text)


def rendered(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def rungs() -> str:
    """Give the ladder: what each rung needs."""
    rows = []
    for row in ladder.table().rungs:
        needs = [ladder.clause(text).shown for text in (*row.needs, *row.open)]
        marks = [mark for mark in ("gate", "optional") if getattr(row, mark)]
        what = ", ".join([row.title, *marks])
        rows.append((f"`{row.id}`", what, "; ".join(dict.fromkeys(needs))))
    return rendered(("rung", "what", "needs"), rows)


def rules() -> str:
    """Give the anti-patterns: what each says, and where it fires."""
    rows = []
    for each in anti_patterns.rules().values():
        named = [tool for tool in each.tools if tool != "recommend_approach"]
        if {*named} >= LAUNCHES:
            named = ["launches", *(tool for tool in named if tool not in LAUNCHES)]
        tools = ", ".join(tool if tool == "launches" else f"`{tool}`" for tool in named)
        where = " ".join(filter(None, [each.strength, tools]))
        if each.override.startswith("None:"):
            where += ", no override"
        rows.append((f"`{each.id}`", each.rule, where))
    return rendered(("id", "rule", "where"), rows)


def result(name: str) -> Any:
    """Return what a benchmark wrote."""
    return json.loads((ROOT / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))


def vram_errors() -> str:
    """Give the estimate's error on rows that set a constant, and on those that set none."""
    names = {
        "check": "check: no constant was set from them",
        "calibration": "calibration: at least one constant was",
    }
    rows = []
    for part, name in names.items():
        one = result("vram")["parts"][part]["all"]
        numbers = [f"{one[key]:.2%}" for key in ("mape", "bias", "worst")]
        rows.append((name, str(one["rows"]), *numbers, f"{one['inside_interval']:.1%}"))
    return rendered(("rows", "count", "mean error", "bias", "worst", "inside interval"), rows)


SPEED_GPUS = ("T4", "RTX 4090", "A100-80GB")
EXAMPLES = 1000
"""More than a step sees."""
SPEED_MODELS = ("Qwen/Qwen3-1.7B", "Qwen/Qwen3-8B", "Qwen/Qwen3-32B")


def speed() -> str:
    """Give what a launch chooses by memory: 16 examples a step of at most 1,024 tokens."""
    rows = []
    for gpu, model in itertools.product(SPEED_GPUS, SPEED_MODELS):
        for method in ("lora", "qlora"):
            training, report = _chosen(gpu, model, method)
            if report["fits"] == "yes" or method == "qlora":
                break
        micro, steps = training[memory.MICRO], training[memory.STEPS]
        fits = f"{report['process_high_gib']:.1f} of {report['usable_gib']:.1f} GiB"
        choice = [method, f"{micro} x {steps}", "on" if training[memory.CHECKPOINTING] else "off"]
        if report["fits"] == "no":
            choice = ["-", "-", "-"]
        rows.append((gpu, model.partition("/")[2], *choice, f"{report['fits']}, up to {fits}"))
    return rendered(
        ("GPU", "model", "method", "micro-batch x accumulation", "checkpointing", "fits"), rows
    )


def _chosen(gpu: str, model: str, method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the training arguments that a launch on this GPU has, and the estimate."""
    card = facts.gpu(gpu)
    usable = usable_gib(gpu, None) or 0.0
    device = Device(
        name="cuda",
        model=gpu,
        # That of which a launch takes this much to be usable.
        memory_gib=usable / facts.number("vram.usable_fraction"),
        precision="bfloat16" if card.has_bf16 else "float16",
    )
    plan = TrainingPlan.model_construct(
        task="sft",
        method=method,
        model=ModelPlan(name=model, load_from=model, base_model=model),
        dataset=DatasetFacts.model_construct(num_examples=EXAMPLES),
        peft={"r": 16, "target_modules": "all-linear"},
        device=device,
        weights_dtype=device.precision,
        estimate=Estimate(steps=0, tokens=0, disk_bytes=0),
        training={
            "optim": "adamw_torch_fused",
            "max_length": 1024,
            memory.CHECKPOINTING: True,
            memory.MICRO: 4,
            memory.STEPS: 4,
        },
    )
    plan.training.update(memory.fastest_that_fits(plan, {}))
    report = memory.require_fit(plan, ["does_not_fit"])
    assert report is not None
    return plan.training, report


def quantized_formats() -> str:
    """Give size and quality of each format of SmolLM2-135M-Instruct."""
    rows = []
    for one in result("quantize")["formats"]:
        quality = one["quality"]
        name = one["format"]
        replaced = sum(one["fallbacks"].values())
        rows.append(
            (
                f"`{name}`",
                f"{one['size_bytes'] / MB:.1f}",
                f"{quality['mean_kl']:.2g}",
                f"{quality['top1_agreement']:.0%}",
                str(replaced or ""),
                quality["verdict"],
            )
        )
    headers = ("format", "MB", "mean KL", "same first choice", "fallbacks", "verdict")
    return rendered(headers, rows)


def lora_ranks() -> str:
    """Give the rank by goal."""
    return rendered(
        ("goal", "rank"),
        [
            ("style", _value("lora.rank_style")),
            ("classification", _value("lora.rank_classification")),
            ("extraction", _value("lora.rank_extraction")),
            ("instruction, domain, preference", _value("lora.rank_general")),
            ("reasoning", _value("lora.rank_reasoning")),
            ("most; beyond it, consider full fine-tuning", _value("lora.rank_max")),
        ],
    )


def learning_rates() -> str:
    """Give the learning rate by task, width and method."""
    rows = [
        (f"SFT, hidden size {hidden:,}", *_rates("sft", hidden))
        for hidden in (576, 1024, 2048, 4096, 8192)
    ]
    header = ("task", "adapters", "full fine-tuning")
    return rendered(header, [*rows, ("DPO, KTO", *_rates("dpo", None))])


def _rates(task: Literal["sft", "dpo"], hidden: int | None) -> tuple[str, str]:
    adapters = choose_learning_rate(task, "lora", hidden).value
    full = choose_learning_rate(task, "full", hidden).value
    return _rate(adapters), _rate(full)


def format_verdicts() -> str:
    """Give the largest loss of each verdict on a format."""
    names = {"good": "good", "ok": "ok", "warn": "fair", "fail": "warn"}
    rows = [(verdict, f"at most {_value(f'ship.kl_{key}')}") for key, verdict in names.items()]
    return rendered(("verdict", "mean KL (nats per token)"), [*rows, ("fail", "above it")])


def _value(threshold: str) -> str:
    return f"{facts.number(threshold):g}"


def _rate(rate: float) -> str:
    return f"{rate:.1e}".replace("e-0", "e-").replace(".0e", "e")


TABLES: dict[str, Callable[[], str]] = {
    each.__name__: each
    for each in (
        vram_errors,
        quantized_formats,
        lora_ranks,
        learning_rates,
        format_verdicts,
        rungs,
        rules,
        speed,
    )
}


def main() -> None:
    """Write every document of references/ whose tables changed."""
    for path in sorted((ROOT / "references").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (filled := fill(text)) != text:
            path.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
