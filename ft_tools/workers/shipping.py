"""Merge, convert, quantize and prove: the worker of merge_and_quantize."""

import gc
import importlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import psutil
import torch
from pydantic import BaseModel
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from ft_tools import facts
from ft_tools.contract import NextStep, Reason
from ft_tools.errors import BadData, DiskFull, FineTuningError, Refused
from ft_tools.publish import MANIFEST, new_folder, private_folder, sha256, verify, write_file
from ft_tools.runs import directory
from ft_tools.runs.session import Session, Stopped, main
from ft_tools.shipping import adapter as adapters
from ft_tools.shipping import formats, handoff, prompt, quality, tensors
from ft_tools.shipping.formats import Format
from ft_tools.shipping.plan import NF4
from ft_tools.shipping.report_page import report_page
from ft_tools.shipping.reports import (
    Chat,
    FormatResult,
    MergeCheck,
    ShipPlan,
    ShipReport,
)
from ft_tools.workers import merging, proving
from ft_tools.workers.proving import Reference, Text

CHECK_TOKENS = 512
CHECK_BYTES = 2**28
CHAT_TOKENS = 128
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer.model", "README.md"]
MERGED = "merged"


class MergeRecord(BaseModel):
    """What is kept of a finished merge for a later attempt."""

    check: MergeCheck | None
    route: str


@dataclass
class Shipment:
    """What every step needs."""

    session: Session
    plan: ShipPlan
    base: Path
    out: Path
    scratch: Path

    @property
    def merged(self) -> Path:
        """Return the folder of the merged model."""
        return self.out / MERGED

    @property
    def adapter(self) -> Path | None:
        """Return the adapter's folder."""
        return Path(self.plan.adapter.path) if self.plan.adapter else None

    def stop_if_asked(self) -> None:
        """End early; what is published stays and is not made again.

        Raises:
            Stopped: A cancel was asked.
        """
        if self.session.should_stop:
            raise Stopped


def work(session: Session) -> BaseModel:
    """Ship what the plan says."""
    transformers_logging.disable_progress_bar()
    plan = ShipPlan.model_validate_json(session.plan_json())
    base = base_folder(session, plan)
    plan = with_adapter_again(plan, base)
    scratch = session.run_dir / "work"
    private_folder(scratch)
    out = Path(plan.output_dir) if plan.output_dir else session.run_dir / "artifacts"
    private_folder(out)
    shipment = Shipment(session, plan, base, out, scratch)
    steps = len(plan.formats) + 3
    merge = merge_once(shipment)
    session.progress(1, steps)
    session.phase("reading held-out text with the merged model")
    tokenizer = merging.tokenizer_of(shipment.merged)
    vocabulary = vocabulary_of(shipment.merged)
    origin = "given" if held_out_is_given(session) else "validation"
    text = proving.held_out_text(tokenizer, _path(plan.held_out), origin, vocabulary)
    reference = Reference(scratch / "reference.f32", text, vocabulary)
    samples = {MERGED: fill(shipment, reference, tokenizer)}
    session.progress(2, steps)
    parts = prompt_parts(tokenizer)
    results = []
    for i, planned in enumerate(plan.formats):
        shipment.stop_if_asked()
        row = formats.find(planned.format)
        result, said = ship_format(shipment, row, Proof(tokenizer, reference, parts))
        results.append(result)
        if said:
            samples[row.name] = said
        session.progress(3 + i, steps)
    require_something(results)
    report = finish(shipment, merge, results, Told(text, parts, tokenizer, samples))
    shutil.rmtree(scratch)
    session.progress(steps, steps)
    return report


@dataclass
class Proof:
    """What a format is measured with."""

    tokenizer: Any
    reference: Reference
    parts: prompt.PromptParts | None


@dataclass
class Told:
    """What the report tells besides numbers."""

    text: Text
    parts: prompt.PromptParts | None
    tokenizer: Any
    samples: dict[str, list[str]]


def base_folder(session: Session, plan: ShipPlan) -> Path:
    """Return the base's folder, fetched from the Hub if it is not here."""
    if Path(plan.load_from).is_dir():
        return Path(plan.load_from)
    session.phase("fetching the base model")
    fetched = huggingface_hub.snapshot_download(plan.load_from, allow_patterns=HUB_FILES)
    return Path(fetched)


def with_adapter_again(plan: ShipPlan, base: Path) -> ShipPlan:
    """Look at base and adapter again: files may have changed since the plan, or come only now.

    Raises:
        BadData: One of them changed.
    """
    config_hash = sha256(base / "config.json")
    if plan.base_config_sha256 and config_hash != plan.base_config_sha256:
        raise BadData(base, "config.json changed since the plan", "plan again")
    config = json.loads((base / "config.json").read_bytes())
    adapters.refuse_quantized(config)
    held = tensors.survey(base)
    found = None
    if plan.adapter:
        found = adapters.inspect(Path(plan.adapter.path), held, config)
        if found.sha256 != plan.adapter.sha256:
            raise BadData(found.path, "the adapter changed since the plan", "plan again")
    return plan.model_copy(update={"adapter": found, "base_config_sha256": config_hash})


def merge_once(shipment: Shipment) -> MergeRecord:
    """Merge, check and publish, unless an earlier attempt did.

    Raises:
        Refused: The merged model is not what was trained; nothing is published.
    """
    record = shipment.scratch / "merge.json"
    done = shipment.merged.is_dir() and record.is_file()
    if done and not verify(shipment.merged):
        shipment.session.event("merged by an earlier attempt")
        return MergeRecord.model_validate_json(record.read_bytes())
    if shipment.session.attempt > 1 and shipment.merged.is_dir() and not record.is_file():
        # Published just before that attempt died; its check is not known, so it is made again.
        shutil.rmtree(shipment.merged)
    with new_folder(shipment.merged) as staging:
        shipment.session.phase("merging")
        route = merge_into(shipment, staging)
        merging.copy_small_files(shipment.base, shipment.adapter, staging)
        check = None
        if shipment.adapter:
            shipment.session.phase("checking the merge")
            check = check_merge(shipment, staging)
        card = handoff.model_card(shipment.plan, check, licence(shipment.base), lineage(shipment))
        (staging / "README.md").write_text(card, encoding="utf-8")
        write_file(record, MergeRecord(check=check, route=route).model_dump_json())
    shipment.session.artifact("model", shipment.merged)
    return MergeRecord(check=check, route=route)


def merge_into(shipment: Shipment, staging: Path) -> str:
    """Write the merged weights; returns the way that was taken."""
    plan = shipment.plan
    if plan.adapter is None or shipment.adapter is None:
        merging.copy_whole(shipment.base, staging)
        return "copy"
    change: merging.Change = merging.unchanged
    if plan.merge_base == "dequantized":
        change = merging.as_nf4_training_saw_it(shipment.base, plan.quantization or dict(NF4))
    if plan.adapter.route == "shards":
        merging.merge_by_shards(
            shipment.base, shipment.adapter, staging, change, shipment.stop_if_asked
        )
    elif plan.merge_base == "dequantized":
        raise Refused(
            f"merge_base='dequantized' works file by file only, and {plan.adapter.why_whole}; "
            "take merge_base='original'"
        )
    else:
        shipment.session.event(f"merged in memory: {plan.adapter.why_whole}")
        merging.merge_whole(shipment.base, shipment.adapter, staging)
    return plan.adapter.route


def check_merge(shipment: Shipment, staging: Path) -> MergeCheck:
    """Compare base plus adapter with the merged model.

    Raises:
        Refused: They differ.
    """
    plan, adapter = shipment.plan, shipment.adapter
    assert adapter is not None
    tokenizer = merging.tokenizer_of(staging)
    vocabulary = vocabulary_of(staging)
    text = proving.held_out_text(tokenizer, _path(plan.held_out), "", vocabulary)
    prompts = check_prompts(text.ids, vocabulary)
    dtype = compute_dtype(plan.num_params or 0)
    quantized = plan.quantization and BitsAndBytesConfig(
        **plan.quantization | {"bnb_4bit_compute_dtype": "float32"}
    )
    found = run_folder(staging, prompts, dtype)
    trained = None
    if quantized:
        trained = merging.adapted_outputs(
            shipment.base, adapter, prompts, dtype, quantization_config=quantized
        )
    if trained and plan.merge_base == "dequantized":
        check = merging.compare(trained, found, dtype, "the 4-bit base with its adapter")
    else:
        expected = merging.adapted_outputs(shipment.base, adapter, prompts, dtype)
        check = merging.compare(expected, found, dtype, "the base with its adapter")
    if trained:
        width = min(trained[0].shape[1], found[0].shape[1])
        kl = merging.mean_kl(trained[0][:, :width], found[0][:, :width])
        check = check.model_copy(update={"mean_kl_as_trained": kl})
    if not check.passed:
        raise Refused(
            f"the merged model differs from {check.reference}: mean KL {check.mean_kl:.2e} nats a "
            f"token (at most {facts.number('ship.merge_kl')}), same first choice for "
            f"{check.top1_agreement:.1%} (at least {facts.number('ship.merge_top1'):.0%}); nothing "
            "was shipped. Check that base_model is exactly the one it was trained on"
        )
    return check


def check_prompts(ids: list[list[int]], vocabulary: int) -> list[list[int]]:
    """Return the first prompts that fit the budget for logits in memory."""
    left = max(64, min(CHECK_TOKENS, CHECK_BYTES // (4 * vocabulary)))
    prompts = []
    for row in ids:
        if left > 1:
            prompts.append(row[:left])
            left -= len(prompts[-1])
    return prompts


def compute_dtype(num_params: int) -> torch.dtype:
    """Return float32, whose own rounding does not show, or bfloat16 where memory is short."""
    fits = num_params * 4 * 1.2 < psutil.virtual_memory().available
    return torch.float32 if fits else torch.bfloat16


def run_folder(
    folder: Path, prompts: list[list[int]], dtype: torch.dtype
) -> tuple[torch.Tensor, list[list[int]]]:
    """Run a model folder over prompts."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    found = merging.outputs(model, prompts)
    del model
    gc.collect()
    return found


def fill(shipment: Shipment, reference: Reference, tokenizer: Any) -> list[str]:
    """Run the merged model over the held-out text; returns its greedy samples."""
    dtype = compute_dtype(shipment.plan.num_params or 0)
    model = AutoModelForCausalLM.from_pretrained(shipment.merged, dtype=dtype).eval()
    reference.fill(model)
    said = proving.samples(model, tokenizer, reference.text)
    del model
    gc.collect()
    return said


def ship_format(shipment: Shipment, row: Format, proof: Proof) -> tuple[FormatResult, list[str]]:
    """Make and measure one format; a failure is a result, and leaves the others.

    Returns:
        The result, and the format's greedy samples.
    """
    record = shipment.scratch / f"{_slug(row)}.json"
    if record.is_file():
        kept = json.loads(record.read_bytes())
        result = FormatResult.model_validate(kept["result"])
        if result.state == "made" and Path(result.path).exists():
            shipment.session.event(f"{row.name} made by an earlier attempt")
            return result, kept["samples"]
    began = time.monotonic()
    try:
        result, said = MAKERS[row.family](shipment, row, proof)
    except (Stopped, DiskFull):
        raise
    except FineTuningError as error:
        return _failed(shipment, row, str(error)), []
    except Exception as error:
        where = f"{type(error).__name__}; get_run with log_lines shows where"
        shipment.session.event(f"{row.name}: {type(error).__name__}", "error")
        return _failed(shipment, row, where), []
    result = result.model_copy(update={"seconds": round(time.monotonic() - began, 1)})
    kept = {"result": result.model_dump(mode="json"), "samples": said}
    write_file(record, json.dumps(kept))
    return result, said


def ship_safetensors(
    shipment: Shipment, row: Format, proof: Proof
) -> tuple[FormatResult, list[str]]:
    """Report the merged folder itself."""
    size = sum(file.stat().st_size for file in shipment.merged.glob("*.safetensors"))
    result = FormatResult(
        format=row.name,
        state="made",
        path=str(shipment.merged),
        size_bytes=size,
        sha256=sha256(shipment.merged / MANIFEST),
    )
    return result, []


def ship_gguf(shipment: Shipment, row: Format, proof: Proof) -> tuple[FormatResult, list[str]]:
    """Make one GGUF file and measure it."""
    # llama_cpp is imported only where a GGUF file is asked for: it is an extra that is compiled.
    gguf_files = importlib.import_module("ft_tools.workers.gguf_files")
    folder = shipment.out / _slug(row)
    file = folder / f"{shipment.plan.name}-{row.type_name}.gguf"
    again = shipment.session.attempt > 1 and folder.is_dir() and not verify(folder)
    if not again:
        shipment.session.phase(f"making {row.name}")
        source = source_gguf(shipment, gguf_files)
        with new_folder(folder) as staging:
            made = staging / file.name
            if row.type_name.lower() == outtype(shipment.merged):
                os.link(source, made)
            else:
                gguf_files.quantize(source, made, row)
            stops = stop_texts(proof.tokenizer, shipment.merged)
            text = prompt.modelfile(file.name, proof.parts, stops)
            (staging / "Modelfile").write_text(text, encoding="utf-8")
    shipment.stop_if_asked()
    shipment.session.phase(f"measuring {row.name}")
    longest = max(map(len, proof.reference.text.ids + proof.reference.text.prompts))
    with gguf_files.opened(file, longest + proving.SAMPLE_TOKENS + 8, logits=True) as model:
        parity = gguf_files.same_ids(model, proof.tokenizer, proof.reference.text)
        measured = proof.reference.measure(lambda ids: gguf_files.logits_of(model, ids))
        said, speed = gguf_files.gguf_samples(model, proof.tokenizer, proof.reference.text)
    types = gguf_files.tensor_types(file)
    shipment.session.artifact("gguf", file)
    found = quality.summarise(measured, parity)
    result = FormatResult(
        format=row.name,
        state="made",
        path=str(file),
        size_bytes=file.stat().st_size,
        sha256=sha256(file),
        quality=found,
        tensor_types=types,
        fallbacks=gguf_files.fallbacks(types, row),
        tokens_per_second=round(speed, 1),
        reasons=[quality.verdict_reason(found)],
    )
    return result, said


def source_gguf(shipment: Shipment, gguf_files: Any) -> Path:
    """Return the merged model as a GGUF file of its own precision, converted once."""
    kind = outtype(shipment.merged)
    source = shipment.scratch / f"source-{kind}.gguf"
    if not source.is_file():
        shipment.session.phase("converting to GGUF")
        beside = shipment.scratch / f"converting-{kind}.gguf"
        gguf_files.convert(shipment.merged, beside, kind, shipment.stop_if_asked)
        beside.rename(source)
    return source


def ship_bnb(shipment: Shipment, row: Format, proof: Proof) -> tuple[FormatResult, list[str]]:
    """Save the merged model with its linear layers in NF4, ready for from_pretrained."""
    folder = shipment.out / _slug(row)
    if not (shipment.session.attempt > 1 and folder.is_dir() and not verify(folder)):
        shipment.session.phase(f"making {row.name}")
        config = BitsAndBytesConfig(**NF4, bnb_4bit_compute_dtype=torch.bfloat16)
        model = AutoModelForCausalLM.from_pretrained(
            shipment.merged, dtype="auto", quantization_config=config
        )
        with new_folder(folder) as staging:
            model.save_pretrained(staging)
            merging.copy_small_files(shipment.merged, None, staging)
        del model
        gc.collect()
    shipment.session.phase(f"measuring {row.name}")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def run(ids: list[int]) -> Any:
        return model(torch.tensor([ids])).logits[0].float().numpy()

    found = quality.summarise(proof.reference.measure(run), True)
    said = proving.samples(model, proof.tokenizer, proof.reference.text)
    shipment.session.artifact("model", folder)
    result = FormatResult(
        format=row.name,
        state="made",
        path=str(folder),
        size_bytes=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        sha256=sha256(folder / MANIFEST),
        quality=found,
        reasons=[quality.verdict_reason(found)],
    )
    return result, said


MAKERS = {"safetensors": ship_safetensors, "gguf": ship_gguf, "bnb": ship_bnb}


def finish(
    shipment: Shipment, merge: MergeRecord, results: list[FormatResult], told: Told
) -> ShipReport:
    """Write HANDOFF.md and report.html, and return the report."""
    proof = prompt_proof(told)
    text = handoff.handoff(shipment.plan, results, proof, MERGED)
    guide = shipment.out / "HANDOFF.md"
    write_file(guide, text)
    report = ShipReport(
        name=shipment.plan.name,
        base_model=shipment.plan.base_model,
        output_dir=str(shipment.out),
        merged_path=str(shipment.merged),
        merge_check=merge.check,
        merge_route=merge.route,
        held_out=told.text.origin,
        num_held_out_tokens=told.text.num_tokens,
        formats=results,
        chat=chat(shipment, results),
        prompt_proof=proof,
        handoff=str(guide),
        reasons=merge_reasons(merge.check),
        next_steps=next_steps(results),
    )
    page = report_page(report, told.text.prompt_texts, told.samples)
    write_file(shipment.session.run_dir / "report.html", page)
    return report


def chat(shipment: Shipment, results: list[FormatResult]) -> Chat | None:
    """Ask the last GGUF file the request's message."""
    made = [r for r in results if r.state == "made" and r.format.startswith("gguf:")]
    if not shipment.plan.chat or not made:
        return None
    shipment.session.phase("chatting with the quantized model")
    gguf_files = importlib.import_module("ft_tools.workers.gguf_files")
    began = time.monotonic()
    messages = [{"role": "user", "content": shipment.plan.chat}]
    answer, count = gguf_files.chat_with_gguf(Path(made[-1].path), messages, CHAT_TOKENS)
    return Chat(
        format=made[-1].format,
        message=shipment.plan.chat,
        answer=answer,
        num_tokens=count,
        seconds=round(time.monotonic() - began, 2),
    )


def prompt_parts(tokenizer: Any) -> prompt.PromptParts | None:
    """Cut the chat template into the parts that Ollama's template is made of."""
    if not tokenizer.chat_template:
        return None
    first = tokenizer("x", add_special_tokens=True).input_ids[0]
    bos = tokenizer.bos_token if first == tokenizer.bos_token_id else ""
    return prompt.parts_of(_renderer(tokenizer), bos or "")


def prompt_proof(told: Told) -> str:
    """Say whether the template in the Modelfile builds the prompts of training."""
    if told.parts is None:
        return "no TEMPLATE: the chat template is not made of fixed parts; check the prompts"
    cases = prompt.probes(with_system=told.parts.system is not None)
    wrong = prompt.differences(told.parts, _renderer(told.tokenizer))
    return f"prompts equal to training's in {len(cases) - len(wrong)} of {len(cases)} conversations"


def stop_texts(tokenizer: Any, merged: Path) -> list[str]:
    """Return the texts that end an answer, by the generation config and the tokenizer."""
    path = merged / "generation_config.json"
    config = json.loads(path.read_bytes()) if path.is_file() else {}
    ends = config.get("eos_token_id")
    ids = ends if isinstance(ends, list) else [ends]
    wanted = [i for i in dict.fromkeys([*ids, tokenizer.eos_token_id]) if i is not None]
    return [str(tokenizer.convert_ids_to_tokens(i)) for i in wanted]


def require_something(results: list[FormatResult]) -> None:
    """Fail the run when not a single format could be made.

    Raises:
        FineTuningError: All failed; the message is the first one's.
    """
    if all(result.state == "failed" for result in results):
        raise FineTuningError(
            f"no format could be made; the merged model is there. {results[0].format}: "
            f"{results[0].error}"
        )


def merge_reasons(check: MergeCheck | None) -> list[Reason]:
    """Say why the merge was shipped."""
    if check is None:
        return []
    gates = (("ship.merge_kl", check.mean_kl), ("ship.merge_top1", check.top1_agreement))
    return [
        Reason(
            rule=facts.threshold(gate).why,
            observed=round(seen, 8),
            threshold=facts.number(gate),
            source=facts.threshold(gate).source,
        )
        for gate, seen in gates
    ]


def next_steps(results: list[FormatResult]) -> list[NextStep]:
    """Suggest to measure the task itself on a shipped file."""
    made = [r for r in results if r.state == "made" and r.quality]
    if not made:
        return []
    why = "measures the task itself on the shipped file; name a held-out dataset"
    return [NextStep(tool="evaluate", arguments={"model": made[-1].path}, why=why)]


def outtype(merged: Path) -> str:
    """Return the GGUF type that holds the merged weights exactly: f32, f16 or bf16."""
    kinds = {tensor.dtype: tensor.num_bytes for tensor in tensors.survey(merged).values()}
    return {"BF16": "bf16", "F16": "f16"}.get(max(kinds, key=lambda k: kinds[k]), "f32")


def vocabulary_of(folder: Path) -> int:
    """Return the number of rows of a model's output."""
    return int(AutoConfig.from_pretrained(folder).get_text_config().vocab_size)


def held_out_is_given(session: Session) -> bool:
    """Tell whether the request named the held-out file."""
    return bool(json.loads(session.request_json()).get("held_out"))


def licence(base: Path) -> str:
    """Return the licence that the base's card names."""
    card = base / "README.md"
    return handoff.licence_of(card.read_text(encoding="utf-8")) if card.is_file() else ""


def lineage(shipment: Shipment) -> dict[str, str]:
    """Return where the source run came from: its id and its data's hash; no paths."""
    parent = shipment.session.info.lineage.get("parent_run")
    if parent is None:
        return {}
    plan = directory.read_json(directory.find(parent) / "plan.json") or {}
    data = plan.get("dataset")
    found = {"training run": parent}
    if isinstance(data, dict) and "sha256" in data:
        found |= {"sha256 of the training data": str(data["sha256"])}
        found |= {"training examples": str(data.get("num_examples", ""))}
    return found


def _failed(shipment: Shipment, row: Format, error: str) -> FormatResult:
    shipment.session.event(f"{row.name} failed; the others go on", "error")
    return FormatResult(format=row.name, state="failed", error=error)


def _renderer(tokenizer: Any) -> prompt.Render:
    def render(messages: Any, generation: bool) -> str:
        return str(
            tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=generation
            )
        )

    return render


def _slug(row: Format) -> str:
    return row.name.replace(":", "-")


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


if __name__ == "__main__":
    main(work)
