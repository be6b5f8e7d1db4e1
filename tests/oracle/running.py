"""Calling the tools, each case in a workspace of its own."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tests.oracle import files
from tests.oracle.answers import value_at
from tests.oracle.cases import Case

ENDED = {"succeeded", "failed", "cancelled", "interrupted"}
PATIENCE_SECONDS = 900.0
INTERRUPT_AFTER_STEPS = 8
QUOTED = re.compile(r"\{([a-z]+\.[a-z0-9_-]+)\.([^{}]+)\}")
"""`{training.sft.run run_id}` in a request: a value of an earlier answer."""
KEPT_CACHES = ("llama.cpp", "models")
"""What takes long to fetch and does not change is taken from the user's cache."""
Answer = dict[str, Any]
OBSERVERS: list[Callable[[str, BaseModel, BaseModel], None]] = []
"""Called with every tool, request and report."""


class Runner:
    """Runs cases in a temporary folder, away from the user's runs, GPUs and network."""

    def __enter__(self) -> "Runner":
        """Write the files that the cases use."""
        self.place = Path(tempfile.mkdtemp(prefix="oracle-"))
        self.answers: dict[str, Answer] = {}
        self.folders: dict[str, Path] = {}
        os.environ.update(_environment(self.place))
        files.write_all(self.place / "template")
        return self

    def __exit__(self, *_: object) -> None:
        """Remove everything."""
        shutil.rmtree(self.place, ignore_errors=True)

    def values(self, case: Case) -> dict[str, Any]:
        """Return the case's quantities; `error` among them if it raised. It raises nothing."""
        folder = self.folders.get(case.after)
        if folder is None:
            folder = self.place / case.id
            shutil.copytree(self.place / "template", folder)
        self.folders[case.id] = folder
        if case.has_convertible_model:
            files.write_convertible_model(folder / "convertible")
        os.environ["FINE_TUNING_LLM_WORKSPACE"] = str(folder)
        try:
            answer = _answer(case, self._filled(case.request))
        except Exception as error:
            answer = {"error": _error(error)}
        self.answers[case.id] = answer
        if any(path.startswith("files ") for path in case.values.values()):
            answer["files"] = _hashes(folder)
        answer["rows"] = _rows(folder / case.request.get("output_dir", "."))
        try:
            found = {name: value_at(answer, path) for name, path in case.values.items()}
        except Exception as error:
            found = {"error": f"cannot be read: {type(error).__name__}: {error}"}
        if "error" in answer and not any(p.startswith("error") for p in case.values.values()):
            return {"error": "{code}: {message}".format(**answer["error"])}
        return json.loads(json.dumps(found).replace(str(folder), ""))

    def _filled(self, value: Any) -> Any:
        """Put values of earlier answers where a request quotes them."""
        if isinstance(value, dict):
            return {key: self._filled(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._filled(part) for part in value]
        if isinstance(value, str) and (quoted := QUOTED.fullmatch(value)):
            return value_at(self.answers[quoted[1]], quoted[2])
        return value


def call(tool: str, arguments: dict[str, Any]) -> Answer:
    """Call a tool as the server does; its report as JSON."""
    from ft_tools.tools import TOOLS  # In each call: where it cannot be imported, no case can be.

    row = TOOLS[tool]
    request = row.request.model_validate(arguments)
    report = row.call(request)
    for observe in OBSERVERS:
        observe(tool, request, report)
    return dict(report.model_dump(mode="json"))


def command(arguments: list[str]) -> Answer:
    """Run the command line; its exit status and what it prints."""
    argv = [sys.executable, "-m", "ft_tools", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return {"exit_code": done.returncode, "report": json.loads(done.stdout or done.stderr)}


def _answer(case: Case, request: dict[str, Any]) -> Answer:
    if case.tool == "command":
        return command(request["arguments"])
    report = call(case.tool, request)
    answer = {"report": report, "planned": report}
    if case.mode == "call":
        return answer
    digest = report.get("plan_hash") or report.get("mapping_hash")
    if digest and "confirm" not in request:
        report = answer["report"] = call(case.tool, {**request, "confirm": digest})
    run_id = report.get("run_id")
    if not run_id:
        return answer
    if case.mode == "interrupt":
        _wait(run_id, _is_on_its_way)
        call("cancel_run", {"run_id": run_id})
        _wait(run_id, _has_ended)
        call("resume_run", {"run_id": run_id})
    answer["run"] = run = _wait(run_id, _has_ended)
    answer["report"] = run["result"] or {}
    answer["losses"] = _losses(Path(os.environ["FINE_TUNING_LLM_WORKSPACE"]) / "runs" / run_id)
    return answer


def _wait(run_id: str, condition: Callable[[Answer], bool]) -> Answer:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition(run := call("get_run", {"run_id": run_id})):
        if time.monotonic() > until:
            raise TimeoutError(f"{run['state']} after {PATIENCE_SECONDS} s")
        time.sleep(0.1)
    return run


def _has_ended(run: Answer) -> bool:
    return run["state"] in ENDED


def _is_on_its_way(run: Answer) -> bool:
    return _has_ended(run) or (run.get("progress") or {}).get("step", 0) >= INTERRUPT_AFTER_STEPS


def _losses(run: Path) -> list[float]:
    """Return the training losses by step; of a step that was repeated the last."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    rows = [json.loads(line) for line in lines]
    found = {row["step"]: row["loss"] for row in rows if "loss" in row}
    return [found[step] for step in sorted(found)]


def _hashes(folder: Path) -> dict[str, str]:
    """Return file -> hash; `RUN` stands for the name of the last run."""
    found = {}
    for path in sorted(folder.rglob("*"), key=lambda path: path.stat().st_mtime_ns):
        if path.is_file():
            name = re.sub(r"^runs/[^/]+", "RUN", str(path.relative_to(folder)))
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


def _rows(folder: Path) -> str:
    """Return the hash of the rows of all parts that were written, in whatever order and part."""
    parts = [folder / f"{name}.jsonl" for name in ("train", "validation", "test")]
    lines = [line for part in parts if part.is_file() for line in part.open(encoding="utf-8")]
    rows = sorted(json.dumps(json.loads(line), sort_keys=True) for line in lines)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16] if rows else ""


def _error(error: Exception) -> dict[str, Any]:
    if isinstance(error, ValidationError):
        where = sorted({str(each["loc"][0]) for each in error.errors() if each["loc"]})
        message = "; ".join(f"{each['loc']} {each['msg']}" for each in error.errors())
        return {"code": "invalid", "arguments": where, "message": message}
    code = getattr(error, "code", f"{type(error).__name__}: {error}"[:200])
    return {"code": code, "message": str(error)}


def _environment(place: Path) -> dict[str, str]:
    """Return what the runs are started with: one thread, no GPU, no network, a cache of its own."""
    cache = place / "cache"
    cache.mkdir(mode=0o700)
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fine-tuning-llm"
    for name in KEPT_CACHES:
        (kept / name).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(kept / name)
    return {
        "FINE_TUNING_LLM_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
    }
