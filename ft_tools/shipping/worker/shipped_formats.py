"""Make one format of the merged model, and measure it."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ft_tools.contract import Reason
from ft_tools.errors import DiskFull, FineTuningError
from ft_tools.metrics.compare import compare
from ft_tools.metrics.table import metric as metric_row
from ft_tools.models import model_folder
from ft_tools.models.placement import CPU, Placement
from ft_tools.models.quantized import nf4
from ft_tools.models.worker.loading import free_memory, load
from ft_tools.publish import link_or_copy, new_folder, sha256, verify, write_file
from ft_tools.runs.processes.worker_session import Stopped
from ft_tools.shipping import modelfile, quality
from ft_tools.shipping.context_length import context_of
from ft_tools.shipping.formats import Format, fold_layers
from ft_tools.shipping.report import FormatResult, ShippedAnswers
from ft_tools.shipping.worker import gguf_jobs, merging, proving, task_metric
from ft_tools.shipping.worker.compressed_formats import ship_compressed
from ft_tools.shipping.worker.merged_model import (
    DTYPES,
    Shipment,
    context_length,
    disk_full_of_libraries,
    outtype,
    slug,
)
from ft_tools.shipping.worker.proving import Proof
from ft_tools.shipping.worker.results import made_folder, measures
from ft_tools.shipping.worker.shipped_end_tokens import ends_of, stop_texts


def ship_format(shipment: Shipment, row: Format, proof: Proof) -> tuple[FormatResult, list[str]]:
    """Make and measure one format; a failure is a result, and leaves the others.

    Returns:
        The result, and the format's greedy samples.
    """
    record = shipment.scratch / f"{slug(row)}.json"
    if record.is_file():
        kept = json.loads(record.read_bytes())
        result = FormatResult.model_validate(kept["result"])
        if result.state == "made" and not verify(folder_of(result)):
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


def folder_of(result: FormatResult) -> Path:
    """Return the published folder that a format is in."""
    path = Path(result.path)
    return path if path.is_dir() else path.parent


def ship_safetensors(
    shipment: Shipment, row: Format, proof: Proof
) -> tuple[FormatResult, list[str]]:
    """Report the merged folder itself."""
    size = sum(file.stat().st_size for file in shipment.merged.glob("*.safetensors"))
    return made_folder(row, shipment.merged, size), []


def ship_gguf(shipment: Shipment, row: Format, proof: Proof) -> tuple[FormatResult, list[str]]:
    """Make one GGUF file and measure it."""
    # llama_cpp is an extra that is compiled: imported only where a GGUF file was asked for.
    from ft_tools.shipping.worker import gguf_files

    folder = shipment.out / slug(row)
    file = folder / f"{shipment.plan.name}-{row.type_name}.gguf"
    again = shipment.session.attempt > 1 and folder.is_dir() and not verify(folder)
    if not again:
        shipment.session.phase(f"making {row.name}")
        source = source_gguf(shipment)
        with new_folder(folder) as staging, disk_full_of_libraries(staging):
            made = staging / file.name
            if row.type_name.lower() == outtype(shipment.merged):
                link_or_copy(source, made)
            else:
                gguf_jobs.quantize(shipment, source, made, row.name)
            stops = stop_texts(proof.tokenizer, shipment.merged)
            limits = limits_of(shipment, proof)
            text = modelfile.modelfile(file.name, proof.parts, stops, proof.system, limits)
            (staging / "Modelfile").write_text(text, encoding="utf-8")
    types = gguf_files.tensor_types(file)
    stand_ins = gguf_files.fallbacks(types, row)
    if not stand_ins:
        shipment.require_planned_size(row, file)
    shipment.session.artifact("gguf", file)
    result = FormatResult(
        format=row.name,
        state="made",
        path=str(file),
        size_bytes=file.stat().st_size,
        sha256=sha256(file),
        tensor_types={name: len(held) for name, held in types.items()},
        fallbacks={name: len(held) for name, held in stand_ins.items()},
        fallback_tensors={name: fold_layers(held) for name, held in stand_ins.items()},
        reasons=[unmeasured()],
    )
    if not shipment.can_run:
        parity = gguf_jobs.split(shipment, file, proof)
        reasons = [unmeasured(), *([] if parity else [quality.parity_reason()])]
        return result.model_copy(update={"tokenizer_parity": parity, "reasons": reasons}), []
    shipment.stop_if_asked()
    shipment.session.phase(f"measuring {row.name}")
    shipped = shipped_prompts(proof, folder / "Modelfile")
    differing = [i for i, ids in enumerate(shipped) if ids != proof.task.prompts[i]]
    prompts = proof.prompts + [shipped[i] for i in differing]
    found, logits = gguf_jobs.run(shipment, file, proof, prompts)
    parity = found["same_ids"]
    rows = proof.reference.measure_rows(logits)
    answers, rest = found["answers"][: len(proof.prompts)], found["answers"][len(proof.prompts) :]
    task = list(proof.task_answers(answers))
    for i, ids in zip(differing, rest, strict=True):
        task[i] = ids
    measured = measures(proof, quality.summarise(rows, parity), answers, found["tokens_per_second"])
    measured["tokenizer_parity"] = parity
    if shipped:
        measured["shipped"] = as_shipped(proof, task, len(shipped) - len(differing))
    return result.model_copy(update=measured), proof.samples(answers)


def limits_of(shipment: Shipment, proof: Proof) -> dict[str, int]:
    """Return the context and the longest answer that the Modelfile sets."""
    how = shipment.asking
    longest = max(map(len, proof.prompts)) + proof.max_new_tokens
    context = context_of(shipment.plan.source, longest, context_length(shipment.merged))
    limits = {"num_ctx": context}
    return limits | ({"num_predict": how.max_new_tokens} if how.max_new_tokens else {})


def as_shipped(proof: Proof, answers: list[list[int]], prompts_equal: int) -> ShippedAnswers:
    """Compare answers through the Modelfile's own SYSTEM and TEMPLATE with the tuned model's."""
    found = task_metric.scores_of(proof.task, proof.tokenizer, answers)
    metric = next(iter(found))
    paired = compare(proof.tuned[metric], found[metric], metric_row(metric).interval)
    return ShippedAnswers(
        num_examples=len(answers),
        prompts_equal=prompts_equal,
        task=task_metric.means(found),
        metric=metric,
        difference=round(paired.difference, 4),
        ci_low=round(paired.low, 4),
        ci_high=round(paired.high, 4),
    )


def shipped_prompts(proof: Proof, file: Path) -> list[list[int]]:
    """Return the task's prompts as the Modelfile's own SYSTEM and TEMPLATE build them.

    Returns:
        One per example of the task; empty where there is none, or no TEMPLATE.
    """
    if proof.task is None or proof.parts is None or not proof.tuned:
        return []
    if not all(proof.task.conversations):
        return []
    system = modelfile.shipped_system(file.read_text(encoding="utf-8"))
    return [
        proving.tokens(proof.tokenizer, modelfile.as_shipped(proof.parts, system, talk))
        for talk in proof.task.conversations
    ]


def unmeasured() -> Reason:
    """Return why a format has no quality."""
    return Reason(
        rule="a format is measured beside the merged model where memory holds that",
        observed="memory is too short to run it, even in bfloat16",
        source="ft_tools/shipping/worker/merged_model.py",
    )


def source_gguf(shipment: Shipment) -> Path:
    """Return the merged model as a GGUF file of its own precision, converted once."""
    from ft_tools.shipping.worker import gguf_files

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
    folder = shipment.out / slug(row)
    packed = shipment.require_places(row.name, four_bit=True)
    if not (shipment.session.attempt > 1 and folder.is_dir() and not verify(folder)):
        shipment.session.phase(f"making {row.name}")
        own = replace(packed[0], dtype=DTYPES[outtype(shipment.merged)])
        model_type = str(model_folder.model_type(shipment.merged))
        model = load(shipment.merged, own, quantization=nf4(model_type))
        with new_folder(folder) as staging, disk_full_of_libraries(staging):
            model.save_pretrained(staging)
            merging.copy_small_files(shipment.merged, None, staging)
        del model
        free_memory()
    size = shipment.require_planned_size(row, folder)
    shipment.session.phase(f"measuring {row.name}")
    model = load(folder, packed[0])
    answers, speed = proving.greedy(model, proof.prompts, proof.max_new_tokens)
    model = plain_again(model, folder, shipment.places())

    @torch.inference_mode()
    def run(ids: list[int]) -> Any:
        batch = torch.tensor([ids], device=model.device)
        return model(batch).logits[0].float().cpu().numpy()

    found = quality.summarise(proof.reference.measure(run), True)
    shipment.session.artifact("model", folder)
    result = made_folder(row, folder, size)
    return result.model_copy(update=measures(proof, found, answers, speed)), proof.samples(answers)


def ship_mlx(shipment: Shipment, row: Format, proof: Proof) -> tuple[FormatResult, list[str]]:
    """Save the merged model as mlx-lm and LM Studio load it, and measure it with MLX."""
    # mlx is an extra: imported only where such a folder was asked for.
    from ft_tools.shipping.worker import mlx_folder

    folder = shipment.out / slug(row)
    if not (shipment.session.attempt > 1 and folder.is_dir() and not verify(folder)):
        shipment.session.phase(f"making {row.name}")
        with new_folder(folder) as staging, disk_full_of_libraries(staging):
            mlx_folder.write(shipment.merged, staging, int(row.type_name.removesuffix("bit")))
    size = shipment.require_planned_size(row, folder)
    shipment.stop_if_asked()
    shipment.session.phase(f"measuring {row.name}")
    model = mlx_folder.opened(folder)
    found = quality.summarise(
        proof.reference.measure(lambda ids: mlx_folder.logits(model, ids)), True
    )
    ends = ends_of(proof.tokenizer, folder)
    answers, speed = mlx_folder.greedy(model, proof.prompts, ends, proof.max_new_tokens)
    shipment.session.artifact("model", folder)
    result = made_folder(row, folder, size)
    return result.model_copy(update=measures(proof, found, answers, speed)), proof.samples(answers)


def plain_again(model: Any, folder: Path, places: Sequence[Placement]) -> Any:
    """Return a 4-bit model in plain layers where memory holds that, else as it is.

    The same weights, without unpacking them for each token, which takes long on a CPU. Loaded
    again, since bitsandbytes packs a model anew when it first runs there, which dequantize() cannot
    read.
    """
    on_cpu = [place for place in places if place.device == CPU]
    if model.device.type != CPU or not on_cpu:
        return model
    del model
    free_memory()
    dtype = getattr(torch, on_cpu[0].dtype)
    return load(folder, replace(on_cpu[0], dtype="bfloat16")).dequantize().to(dtype).eval()


def _failed(shipment: Shipment, row: Format, error: str) -> FormatResult:
    shipment.session.event(f"{row.name} failed; the other formats are still made", "error")
    return FormatResult(format=row.name, state="failed", error=error)


MAKERS = {
    "safetensors": ship_safetensors,
    "gguf": ship_gguf,
    "bnb": ship_bnb,
    "mlx": ship_mlx,
    "environment": ship_compressed,
}
