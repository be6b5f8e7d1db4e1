"""What is reported of a format: where it is, and what was measured of it."""

from pathlib import Path
from typing import Any

from ft_tools.publish import MANIFEST, sha256
from ft_tools.shipping import quality
from ft_tools.shipping.formats import Format
from ft_tools.shipping.report import FormatResult
from ft_tools.shipping.worker import task_metric
from ft_tools.shipping.worker.proving import Proof


def made_folder(row: Format, folder: Path, size_bytes: int) -> FormatResult:
    """Return the result of a format that is a folder, not measured yet."""
    return FormatResult(
        format=row.name,
        state="made",
        path=str(folder),
        size_bytes=size_bytes,
        sha256=sha256(folder / MANIFEST),
    )


def measures(
    proof: Proof, found: quality.Quality, answers: list[list[int]], tokens_per_second: float
) -> dict[str, Any]:
    """Return the fields of a result that measuring it fills."""
    return {
        "quality": found,
        "task": task_metric.means_of_proof(proof, answers),
        "tokens_per_second": round(tokens_per_second, 1),
        "reasons": [quality.verdict_reason(found)],
    }
