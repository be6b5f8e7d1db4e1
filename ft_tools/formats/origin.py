"""Where a made training row comes from: origin.jsonl beside a dataset, keyed by row hash."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ft_tools.publish import read_rows

FILE = "origin.jsonl"
PLAIN_NAME = re.compile(r"[\w.:/@+-]{1,100}")
OriginKind = Literal["source", "answers", "documents", "traces", "variations"]


class Origin(BaseModel):
    """Where one row comes from; a reader of a newer file ignores what it does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: OriginKind = Field(description="source: a row of the user's own file, as it was.")
    source: str = Field(description="File and line, passage or session.")
    source_sha256: str = Field("", description="Of the file.")
    change: str = Field("", description="Of an exact variation: what was changed.")
    teacher: str = Field("", description="Model that was asked.")
    answered_by: str = Field("", description="Model and fingerprint that the endpoint reported.")
    host: str = ""
    date: str = Field("", description="When it was made, UTC.")
    prompt_sha256: str = Field("", description="Of the messages that were sent.")
    sampling: dict[str, float | int] = Field(
        default_factory=dict, description="temperature, max_tokens, sample number ..."
    )
    checks: dict[str, float | None] = Field(default_factory=dict, description="Check -> score.")
    log_format: str = Field("", description="Of a trace: the format of its log.")
    session: str = Field("", description="Of a trace: id of its session, or of the trace.")
    signs: dict[str, Any] = Field(
        default_factory=dict, description="Of a trace: what says that it went well."
    )
    terms: str = Field("", description="Address of the teacher's terms.")
    terms_read: str = Field("", description="When they were read.")

    @property
    def maker(self) -> str:
        """Return what made the row, and who: a name that a log made up is not repeated."""
        who = self.teacher if PLAIN_NAME.fullmatch(self.teacher) else "a model without a plain name"
        return f"{self.kind} by {who}" if self.teacher else self.kind


def row_hash(row: Mapping[str, Any]) -> str:
    """Return the hash of what is trained on of a row, in whichever of two forms it stands.

    >>> asked, said = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    >>> row_hash({"messages": [asked, said]}) == row_hash({"prompt": [asked], "completion": [said]})
    True
    """
    turns = row.get("messages")
    if turns is None:
        prompt, completion = row.get("prompt"), row.get("completion")
        turns = [prompt, completion]
        if isinstance(prompt, list) and isinstance(completion, list):
            turns = [*prompt, *completion]
    content = json.dumps([turns, row.get("tools") or None], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def read_origins(dataset: Path) -> dict[str, Origin]:
    """Return the origins that stand beside a dataset, by row hash; empty where there are none."""
    found = {}
    for row in read_rows(dataset.parent / FILE):
        try:
            found[str(row["row"])] = Origin.model_validate(row)
        except (ValidationError, KeyError):
            continue
    return found


def describe_made(dataset: Path) -> str:
    """Return which shares of a dataset's rows were made, and by whom; empty if nobody knows."""
    origins = read_origins(dataset)
    if not origins:
        return ""
    rows = read_rows(dataset)
    known = [origins[key] for row in rows if (key := row_hash(row)) in origins]
    made = Counter(one.maker for one in known if one.kind != "source")
    if not made:
        return ""
    listed = ", ".join(f"{count} {who}" for who, count in made.most_common())
    total = made.total()
    return f"{total} of {len(rows)} ({total / len(rows):.0%}): {listed}"
