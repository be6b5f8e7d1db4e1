"""GPTQ, AWQ and FP8: made and run by llm-compressor, in its own environment."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ft_tools.errors import DiskFull, FineTuningError
from ft_tools.models.placement import Placement
from ft_tools.publish import new_folder, verify
from ft_tools.shipping import calibration, llm_compressor_environment, quality
from ft_tools.shipping.formats import Format
from ft_tools.shipping.report import FormatResult
from ft_tools.shipping.watched_program import watched
from ft_tools.shipping.worker import merging, proving
from ft_tools.shipping.worker.merged_model import Shipment, disk_full_of_libraries, slug
from ft_tools.shipping.worker.proving import Proof
from ft_tools.shipping.worker.results import made_folder, measures

SCRIPT = Path(__file__).with_name("llm_compressor_recipe.py")


class QuantizerFailed(FineTuningError):
    """llm-compressor could not make a model, or not run it."""

    code = "quantizer_failed"
    exit_code = 5


def ship_compressed(
    shipment: Shipment, row: Format, proof: Proof
) -> tuple[FormatResult, list[str]]:
    """Make a model in compressed-tensors format, load it back and measure it.

    Raises:
        Missing: The environment cannot be built.
        QuantizerFailed: llm-compressor could not.
    """
    session = shipment.session
    place = shipment.require_places(row.name)[0]
    if not llm_compressor_environment.is_built():
        size = llm_compressor_environment.disk_bytes() / 2**30
        session.phase(
            f"building the environment of {llm_compressor_environment.REQUIREMENT}, {size:.1f} GiB"
        )
    log = shipment.scratch / "environment.log"
    python = llm_compressor_environment.build(log, shipment.stop_if_asked)
    folder = shipment.out / slug(row)
    if not (session.attempt > 1 and folder.is_dir() and not verify(folder)):
        session.phase(f"making {row.name}")
        with new_folder(folder) as staging, disk_full_of_libraries(staging):
            job: dict[str, Any] = {
                "task": "make",
                "model": str(shipment.merged),
                "output": str(staging),
            }
            job |= {"method": row.method, "texts": texts_for(shipment, row, proof.tokenizer)}
            work(shipment, python, job)
            merging.copy_small_files(shipment.merged, None, staging)
    shipment.stop_if_asked()
    session.phase(f"measuring {row.name}")
    size = shipment.require_planned_size(row, folder)
    answer, logits = run(shipment, python, folder, proof, place)
    special = proof.tokenizer(list(probes(proof)), add_special_tokens=False).input_ids
    found = quality.summarise(
        proof.reference.measure_rows(logits), tokenizer_parity=answer["probes"] == special
    )
    answers = answer["answers"]
    session.artifact("model", folder)
    result = made_folder(row, folder, size)
    measured = measures(proof, found, answers, answer["tokens_per_second"])
    return result.model_copy(update=measured), proof.samples(answers)


def texts_for(shipment: Shipment, row: Format, tokenizer: Any) -> list[list[int]]:
    """Return the ids that a method calibrates on; none where it needs none."""
    if not row.needs_text:
        return []
    assert shipment.plan.calibration is not None
    rows = calibration.examples(Path(shipment.plan.calibration), shipment.held_out)
    return proving.ids_of(tokenizer, rows, calibration.MAX_EXAMPLE_TOKENS)


def run(
    shipment: Shipment, python: Path, folder: Path, proof: Proof, place: Placement
) -> tuple[dict[str, Any], np.memmap[Any, Any]]:
    """Load a model back in the environment and run it over the held-out text.

    Returns:
        What it answered, and its logits, (tokens, vocabulary).
    """
    text = proof.reference.text
    logits = shipment.scratch / "compressed.f32"
    job: dict[str, Any] = {
        "task": "run",
        "model": str(folder),
        "device_map": place.device_map,
        "dtype": place.dtype,
        "texts": text.ids,
        "prompts": proof.prompts,
    }
    job |= {"logits": str(logits), "vocabulary": proof.reference.vocabulary}
    job |= {"max_new_tokens": proof.max_new_tokens, "probes": list(probes(proof))}
    answer = work(shipment, python, job)
    shape = (text.num_tokens, proof.reference.vocabulary)
    return answer, np.memmap(logits, dtype=np.float32, mode="r", shape=shape)


def probes(proof: Proof) -> tuple[str, ...]:
    """Return the texts that have to give the same ids."""
    return (*proving.PROBES, *proof.reference.text.raw)


def work(shipment: Shipment, python: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Let the environment's python do a job.

    Raises:
        DiskFull: There was no space for what it writes.
        QuantizerFailed: It ended badly; its words are in the run's log.
    """
    scratch = shipment.scratch
    job_file, answer, log = scratch / "job.json", scratch / "answer.json", scratch / "job.log"
    answer.unlink(missing_ok=True)
    job_file.write_text(json.dumps(job | {"answer": str(answer)}), encoding="utf-8")
    variables = os.environ | {"HF_HUB_OFFLINE": "1", "LLM_COMPRESSOR_LOG_LEVEL": "WARNING"}
    argv = [str(python), "-I", str(SCRIPT), str(job_file)]
    code = watched(argv, log, shipment.stop_if_asked, variables, scratch)
    said = log.read_text(encoding="utf-8", errors="replace")
    if code == 0 and answer.is_file():
        return dict(json.loads(answer.read_bytes()))
    sys.stderr.write(said[-20_000:])
    if llm_compressor_environment.NO_SPACE in said:
        raise DiskFull("no space left while quantizing; free some space and run it again")
    raise QuantizerFailed(
        f"llm-compressor {llm_compressor_environment.VERSION} ended with {code} "
        f"({_last_error(said)!a}); get_run with log_lines shows its words; the other formats "
        "are there"
    )


def _last_error(said: str) -> str:
    last = [line for line in said.splitlines() if line and not line[0].isspace()][-1:]
    return last[0].partition(":")[0][:60] if last else "no output"
