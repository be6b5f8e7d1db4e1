"""Make one format of the merged model, and measure it: the same steps for each kind of format."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft_tools.errors import DiskFull, FineTuningError
from ft_tools.metrics.means import compare
from ft_tools.metrics.table import metric as metric_row
from ft_tools.models.model_folder import weight_bytes
from ft_tools.publish import MANIFEST, link_or_copy, new_folder, sha256, verify
from ft_tools.reasons import reason
from ft_tools.runs.processes.worker_session import Stopped
from ft_tools.shipping import comparison_text, modelfile, quality
from ft_tools.shipping import llm_compressor_environment as environment
from ft_tools.shipping.formats import Format
from ft_tools.shipping.programs import answer_of
from ft_tools.shipping.quality import PositionScores
from ft_tools.shipping.report import FormatResult, ShippedAnswers
from ft_tools.shipping.worker import merging, prompts
from ft_tools.shipping.worker.proof import Proof, means, render, tokens
from ft_tools.shipping.worker.shipment import Shipment, disk_full_of_libraries, own_types

SCRIPT = Path(__file__).with_name("llm_compressor_recipe.py")


@dataclass
class FormatAnswers:
    """What a format answered."""

    measured: PositionScores
    answers: list[list[int]]
    """To the prompts of the proof."""
    tokens_per_second: float
    same_ids: bool = True
    shipped: ShippedAnswers | None = None


def ship_format(shipment: Shipment, row: Format, proof: Proof) -> tuple[FormatResult, list[str]]:
    """Make and measure one format; a failure is a result, and leaves the others.

    Returns:
        The result, and the format's greedy samples.
    """
    began = time.monotonic()
    try:
        result, said = _made_and_measured(shipment, row, proof)
    except (Stopped, DiskFull):
        raise
    except Exception as error:
        why = str(error)
        if not isinstance(error, FineTuningError):
            traceback.print_exc()
            why = f"{type(error).__name__}; get_run with log_lines shows where"
        shipment.session.event(f"{row.name} failed; the other formats are still made", "error")
        return FormatResult(format=row.name, state="failed", error=why), []
    return result.model_copy(update={"seconds": round(time.monotonic() - began, 1)}), said


def _made_and_measured(
    shipment: Shipment, row: Format, proof: Proof
) -> tuple[FormatResult, list[str]]:
    """Make one format, unless an earlier attempt did, and measure it."""
    session, is_gguf = shipment.session, row.family == "gguf"
    if row.family == "safetensors":
        own = {"task": means(proof.tuned), "tokens_per_second": proof.tokens_per_second}
        return _made(row, shipment.merged).model_copy(update=own), []
    make, run = FAMILIES[row.family]
    folder = shipment.out / row.name.replace(":", "-")
    path = folder / f"{shipment.plan.name}-{row.type_name}.gguf" if is_gguf else folder
    if row.family == "environment":
        shipment.require_place(row.name)
    if not (session.attempt > 1 and folder.is_dir() and not verify(folder)):
        session.phase(f"making {row.name}")
        with new_folder(folder) as staging, disk_full_of_libraries(staging):
            make(shipment, row, proof, staging / path.relative_to(folder))
    result = _made(row, path)
    if is_gguf:
        from ft_tools.shipping.worker import llama

        types = llama.tensor_types(path)
        stand_ins = llama.fallbacks(types, row)
        result = result.model_copy(update={"tensor_types": types, "fallbacks": stand_ins})
    session.artifact("gguf" if is_gguf else "model", path)
    shipment.stop_if_asked()
    session.phase(f"measuring {row.name}")
    if is_gguf and not shipment.can_run:
        same = proof.has_same_ids(_run_gguf(shipment, path, proof, [], logits=None)["ids"])
        short = "memory is too short to run it, even in bfloat16"
        reasons = [reason("not_measured", short), *([] if same else [quality.parity_reason()])]
        return result.model_copy(update={"tokenizer_parity": same, "reasons": reasons}), []
    ran = run(shipment, row, proof, path)
    found, why = quality.summarise(ran.measured, ran.same_ids)
    update = {
        "quality": found,
        "tokenizer_parity": ran.same_ids if is_gguf else None,
        "task": means(proof.scores(ran.answers)),
        "shipped": ran.shipped,
        "tokens_per_second": round(ran.tokens_per_second, 1),
        "reasons": [why],
    }
    return result.model_copy(update=update), proof.shown(ran.answers)


def _made(row: Format, path: Path) -> FormatResult:
    digest, size = sha256(path / MANIFEST if path.is_dir() else path), weight_bytes(path)
    return FormatResult(
        format=row.name, state="made", path=str(path), size_bytes=size, sha256=digest
    )


# --- GGUF: llama_cpp is an extra that is compiled, imported only where a file was asked for -------


def make_gguf(shipment: Shipment, row: Format, proof: Proof, file: Path) -> None:
    """Make one GGUF file of the merged model, converted once, and its Modelfile."""
    from ft_tools.shipping.worker import llama

    kind, _ = own_types(shipment.merged)
    source = shipment.scratch / f"source-{kind}.gguf"
    if not source.is_file():
        shipment.session.phase("converting to GGUF")
        beside = shipment.scratch / f"converting-{kind}.gguf"
        llama.convert(shipment.merged, beside, kind, shipment.stop_if_asked)
        beside.rename(source)
    if row.type_name.lower() == kind:
        link_or_copy(source, file)
    else:
        job = {"source": str(source), "file": str(file), "format": row.name}
        llama.do("quantize", shipment.scratch, shipment.stop_if_asked, **job)
    how = shipment.asking
    text = modelfile.modelfile(file.name, proof.parts, how.stops, how.system, how.limits)
    file.with_name("Modelfile").write_text(text, encoding="utf-8")


def run_gguf(shipment: Shipment, row: Format, proof: Proof, file: Path) -> FormatAnswers:
    """Run a GGUF file; questions are also asked as its Modelfile asks them."""
    own = proof.held_out.prompts
    shipped = _shipped_prompts(proof, file.with_name("Modelfile"))
    differing = [i for i, ids in enumerate(shipped) if ids != own[i]]
    logits = shipment.scratch / "gguf.f32"
    asked = own + [shipped[i] for i in differing]
    found = _run_gguf(shipment, file, proof, asked, logits=str(logits))
    answers, rest = found["answers"][: len(own)], found["answers"][len(own) :]
    ran = FormatAnswers(
        proof.measure(proof.by_text(logits, found["vocabulary"])),
        answers,
        found["tokens_per_second"],
        proof.has_same_ids(found["ids"]),
    )
    if shipped:
        through = dict(zip(differing, rest, strict=True))
        as_shipped = [through.get(i, ids) for i, ids in enumerate(answers)]
        ran.shipped = _compared_with_tuned(proof, as_shipped, len(shipped) - len(differing))
    return ran


def _run_gguf(
    shipment: Shipment, file: Path, proof: Proof, asked: list[list[int]], logits: str | None
) -> dict[str, Any]:
    from ft_tools.shipping.worker import llama

    return llama.do(
        "run",
        shipment.scratch,
        shipment.stop_if_asked,
        file=str(file),
        prompts=asked,
        ends=prompts.ends_of(proof.tokenizer, shipment.merged),
        logits=logits,
        **_measured_with(proof),
    )


def _measured_with(proof: Proof) -> dict[str, Any]:
    """Return what a program in a process of its own is given to run a format over."""
    text = proof.held_out
    return {"texts": text.ids, "max_new_tokens": text.max_new_tokens, "probes": proof.probes}


def _shipped_prompts(proof: Proof, file: Path) -> list[list[int]]:
    """Return the task's prompts as the Modelfile's own SYSTEM and TEMPLATE build them.

    Returns:
        One per example of the task; empty where there is none, or no TEMPLATE.
    """
    talks, parts = proof.held_out.conversations, proof.parts
    if parts is None or not proof.tuned or not all(talks):
        return []
    system = modelfile.shipped_system(file.read_text(encoding="utf-8"))
    texts = [modelfile.as_shipped(parts, system, talk) for talk in talks]
    return [tokens(proof.tokenizer, text) for text in texts]


def _compared_with_tuned(
    proof: Proof, answers: list[list[int]], prompts_equal: int
) -> ShippedAnswers:
    """Compare answers through the Modelfile with the tuned model's, paired by example."""
    found = proof.scores(answers)
    metric = next(iter(found))
    paired = compare(proof.tuned[metric], found[metric], metric_row(metric).interval)
    return ShippedAnswers(
        num_examples=len(answers),
        prompts_equal=prompts_equal,
        task=means(found),
        metric=metric,
        difference=round(paired.difference, 4),
        ci_low=round(paired.ci_low, 4),
        ci_high=round(paired.ci_high, 4),
    )


# --- MLX; an extra, imported only where such a folder was asked for -------------------------------


def make_mlx(shipment: Shipment, row: Format, proof: Proof, folder: Path) -> None:
    """Save the merged model as mlx-lm and LM Studio load it."""
    from ft_tools.shipping.worker import mlx_folder

    mlx_folder.write(shipment.merged, folder, int(row.type_name.removesuffix("bit")))


def run_mlx(shipment: Shipment, row: Format, proof: Proof, folder: Path) -> FormatAnswers:
    """Run an MLX folder with MLX."""
    from ft_tools.shipping.worker import mlx_folder

    model, text = mlx_folder.opened(folder), proof.held_out
    found = proof.measure(mlx_folder.logits(model, ids) for ids in text.ids)
    ends = prompts.ends_of(proof.tokenizer, folder)
    answers, speed = mlx_folder.greedy(model, text.prompts, ends, text.max_new_tokens)
    return FormatAnswers(found, answers, speed)


# --- GPTQ, AWQ and FP8: made and run by llm-compressor, in its own environment --------------------


def make_compressed(shipment: Shipment, row: Format, proof: Proof, folder: Path) -> None:
    """Make a model in compressed-tensors format."""
    texts: list[list[int]] = []
    if row.needs_text and shipment.plan.calibration is not None:
        path = Path(shipment.plan.calibration)
        for one in comparison_text.calibration_examples(path, shipment.held_out):
            whole = comparison_text.conversation(one) or ""
            ids = tokens(proof.tokenizer, render(proof.tokenizer, whole, generation=False))
            texts.append(ids[: comparison_text.MAX_CALIBRATION_TOKENS])
    job = {"task": "make", "model": str(shipment.merged), "output": str(folder)}
    texts = [ids for ids in texts if len(ids) > 1]
    _compress(shipment, job | {"method": row.method, "texts": texts})
    merging.copy_small_files(shipment.merged, None, folder)


def run_compressed(shipment: Shipment, row: Format, proof: Proof, folder: Path) -> FormatAnswers:
    """Load a model back in the environment and run it over the held-out text."""
    place, logits = shipment.require_place(row.name), shipment.scratch / "compressed.f32"
    job: dict[str, Any] = {"task": "run", "model": str(folder), "logits": str(logits)}
    job |= {"device_map": place.device_map, "dtype": place.dtype}
    job |= {"prompts": proof.held_out.prompts, **_measured_with(proof)}
    answer = _compress(shipment, job)
    found = proof.measure(proof.by_text(logits, answer["vocabulary"]))
    same = proof.has_same_ids(answer["ids"])
    return FormatAnswers(found, answer["answers"], answer["tokens_per_second"], same)


def _compress(shipment: Shipment, job: dict[str, Any]) -> dict[str, Any]:
    """Let the environment's python do a job; the environment is built first if need be."""
    if not environment.is_built():
        size = environment.missing_bytes() / 2**30
        shipment.session.phase(f"building {environment.REQUIREMENT}, {size:.1f} GiB")
    scratch, stop = shipment.scratch, shipment.stop_if_asked
    python = environment.build(scratch / "environment.log", stop)
    argv = [str(python), "-I", str(SCRIPT)]
    more = {"HF_HUB_OFFLINE": "1", "LLM_COMPRESSOR_LOG_LEVEL": "WARNING"}
    return answer_of(f"llm-compressor {environment.VERSION}", argv, job, scratch, stop, **more)


Maker = Callable[[Shipment, Format, Proof, Path], None]
Runner = Callable[[Shipment, Format, Proof, Path], FormatAnswers]
FAMILIES: dict[str, tuple[Maker, Runner]] = {
    "gguf": (make_gguf, run_gguf),
    "mlx": (make_mlx, run_mlx),
    "environment": (make_compressed, run_compressed),
}
"""Family of formats -> what makes one, and what runs it."""
