"""How many tokens the documents have, and what answering from them costs per day."""

from functools import lru_cache
from pathlib import Path

from ft_tools import workspace
from ft_tools.approach.report import DailyCost, DocumentsCost
from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.situation import number_of
from ft_tools.approach.table import table
from ft_tools.data.understand.lengths import METHOD, estimate_tokens
from ft_tools.errors import BadInput
from ft_tools.formats.readers.documents import count_documents, is_documents, require_text
from ft_tools.formats.readers.encodings import utf_16_of
from ft_tools.formats.readers.file_kinds import is_binary

TEXT = frozenset({".txt", ".md", ".rst", ".html", ".htm", ".json", ".jsonl", ".csv", ".xml"})
READ = TEXT | {".pdf", ".docx"}
MOST_BYTES = 200 * 2**20
READ_BYTES = 2**20
"""Of one file; the rest of it counts by its size."""

MINUTES_PER_DAY = 1440


def documents_cost(request: ApproachRequest) -> DocumentsCost | None:
    """Return the tokens of `documents` and the cost of each way to use them; None without any.

    Raises:
        NotFound: Nothing is there.
        OutsideWorkspace: It leaves the workspace.
        BadInput: There is no text in it, or too much.
    """
    if request.documents is None:
        return None
    num_files, tokens = count_tokens(request.documents)
    return DocumentsCost(
        num_files=num_files,
        corpus_tokens=tokens,
        counted=METHOD.split(";")[0],
        costs=daily_costs(tokens, number_of(request.calls_per_day)),
        source="ft_tools/facts/approaches.toml#prices",
    )


def count_tokens(path: str) -> tuple[int, int]:
    """Return the number of text files below a path, and an estimate of their tokens.

    Raises:
        NotFound: Nothing is there.
        OutsideWorkspace: It leaves the workspace.
        BadInput: There is no text in it, or too much.
    """
    root = workspace.existing(path)
    counts = count_documents(root) if is_documents(root) else None
    if counts and counts.num_tokens and counts.kinds.keys() & {"pdf", "docx"}:
        return counts.num_files, counts.num_tokens
    found = [root] if root.is_file() else sorted(each for each in root.rglob("*") if each.is_file())
    files = [each for each in found if each.suffix.lower() in TEXT and not each.is_symlink()]
    if not files:
        if counts is not None:
            require_text(root, counts)
        raise BadInput(
            f"documents {path!r} has no text files; supported: {', '.join(sorted(READ))}. Convert "
            "other formats to text first, or set corpus_tokens"
        )
    size = sum(each.stat().st_size for each in files)
    if size > MOST_BYTES:
        raise BadInput(
            f"documents {path!r} has {size:,} bytes, more than {MOST_BYTES:,}; set corpus_tokens "
            "(about a quarter of the characters) instead"
        )
    tokens = [_tokens_of(each, each.stat().st_mtime_ns) for each in files]
    if not any(tokens):
        raise BadInput(f"documents {path!r} holds no text: empty or binary; name files with text")
    return sum(map(bool, tokens)), sum(tokens)


CACHING = {True: "read from the cache", False: "written anew: the cache expires in between"}


def daily_costs(corpus_tokens: int, calls_per_day: int | None) -> list[DailyCost]:
    """Return the cost of long context with caching, of retrieval and of a lookup.

    Long context reads the corpus from the cache in every call, and writes it anew where calls are
    further apart than the cache lives. Output tokens are the same for all three and left out.

    >>> [round(each.usd_per_1000_calls, 2) for each in daily_costs(100_000, 1000)]
    [30.35, 6.0, 1.5]
    """
    given = {name: row.value for name, row in table().prices.items()}
    price = given["input_usd_per_million"] / 1e6
    calls = calls_per_day or 1000
    windows = MINUTES_PER_DAY / given["cache_minutes"]
    writes = 1 if calls >= windows else calls
    is_cached = corpus_tokens >= table().thresholds["cacheable_prefix"].value
    cached = (calls - writes) * given["cached_fraction"] + writes * given["cache_write_fraction"]
    tokens_per_day = {
        "long_context": corpus_tokens * (cached if is_cached else calls),
        "rag": calls * given["retrieved_tokens"],
        "tool_lookup": calls * given["lookup_tokens"],
    }
    said = {
        "long_context": f"{corpus_tokens:,} tokens per call, "
        + (CACHING[writes == 1] if is_cached else "too few to be cached"),
        "rag": f"{given['retrieved_tokens']:,.0f} retrieved tokens per call, without the index",
        "tool_lookup": f"{given['lookup_tokens']:,.0f} tokens per call for the tool and its result",
    }
    return [
        DailyCost.model_validate(
            {
                "approach": name,
                "usd_per_day": None if calls_per_day is None else _cents(tokens * price),
                "usd_per_1000_calls": _cents(tokens * price / calls * 1000),
                "assumptions": f"{said[name]}; {given['input_usd_per_million']:g} USD per million",
            }
        )
        for name, tokens in tokens_per_day.items()
    ]


def _cents(usd: float) -> float:
    return round(usd, 2)


@lru_cache(maxsize=10_000)
def _tokens_of(path: Path, _changed: int) -> int:
    """Estimate the tokens of a file, none of a binary one; a long one by its beginning."""
    with path.open("rb") as file:
        start = file.read(READ_BYTES)
    utf_16 = utf_16_of(start)
    text = "" if is_binary(start) and not utf_16 else start.decode(utf_16 or "utf-8", "replace")
    return round(estimate_tokens(text) * path.stat().st_size / len(start)) if text.strip() else 0
