"""P13: any bytes as a dataset give a report or a clear error, never a traceback, within memory."""

import json
import resource
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ft_tools import workspace as workspace_module
from ft_tools.data.audit import perform
from ft_tools.data.judge.readiness import is_undecided
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.errors import FineTuningError
from ft_tools.formats.quoting import quote
from tests.fuzz import nasty

NAMES = ["d.jsonl", "d.json", "d.csv", "d.tsv", "d.jsonl.gz", "d.parquet"]
QUICK = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(workspace_module.VARIABLE, str(path))
        yield path


def audit_and_check(folder, name, content):
    """Audit some bytes with outputs; check that what comes is a clear error or a true report."""
    (folder / name).write_bytes(content)
    counter = getattr(audit_and_check, "counter", 0) + 1
    audit_and_check.counter = counter
    out = folder / f"out{counter}"
    request = AuditRequest(path=name, output_dir=out.name, max_removed_fraction=1.0)
    try:
        report = audit_dataset(request)
    except FineTuningError:
        assert not out.exists()
        return None
    if report.outputs is None:
        # A person has to say first what a column of verdicts means.
        assert is_undecided(report.reasons)
        assert not out.exists()
        return report
    parts = {part: rows_of(out / f"{part}.jsonl") for part in ("train", "validation", "removed")}
    assert sum(map(len, parts.values())) == report.num_examples
    assert len(parts["removed"]) == report.num_examples - report.num_usable
    assert not list(folder.glob(".tmp*"))
    return report


def rows_of(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


@QUICK
@given(st.binary(max_size=400), st.sampled_from(NAMES))
def test_any_bytes_give_a_report_or_a_clear_error(folder, content, name):
    audit_and_check(folder, name, content)


# What random exploration found; each ended an audit with a traceback.
FOUND = [
    {"messages": {}, "prompt": [], "completion": [None]},
    {"prompt": [{"role": "user", "content": "a"}], "completion": ["b", 1, {"role": "assistant"}]},
    {"messages": [{"role": "user", "content": [{"type": {}, "text": "a"}]}]},
    {"messages": [{"role": "user", "content": [{"type": [1], "text": "a"}, {"type": "text"}]}]},
]


@pytest.mark.parametrize("row", FOUND, ids=range(len(FOUND)))
@pytest.mark.parametrize("name", ["d.jsonl", "d.json"])
def test_turns_and_content_parts_that_are_no_objects_are_findings(folder, row, name):
    good = {"prompt": "What is it?", "completion": "It is this."}
    rows = [good, row]
    content = json.dumps(rows) if name == "d.json" else "\n".join(map(json.dumps, rows))
    report = audit_and_check(folder, name, content.encode())
    assert report.num_examples == 2
    assert report.num_usable == 1


# Each file: a report or a clear error, and how long the call took; the process's peak at the end.
# What becomes a run is performed too, with no limit on its time.
AUDITOR = """
import json, os, sys, time
from ft_tools.data.audit import perform
from ft_tools.data.tool import audit_if_small
from ft_tools.data.request import AuditRequest
from ft_tools.errors import FineTuningError
from ft_tools.formats.quoting import quote
from tests.fuzz import nasty
# Durability is proved elsewhere.
os.fsync = lambda _: None
for number, name in enumerate(json.loads(sys.stdin.read())):
    begin = time.process_time()
    try:
        out = f"out{number}"
        request = AuditRequest(path=name, output_dir=out, max_removed_fraction=1.0)
        report = audit_if_small(request)
        said = report.verdict if report else "a run"
    except FineTuningError as error:
        said = type(error).__name__
    took = time.process_time() - begin
    if said == "a run":
        try:
            said = f"a run, {perform(request).verdict}"
        except FineTuningError as error:
            said = f"a run, {type(error).__name__}"
    print(json.dumps([name, said, took]), flush=True)
# Not what getrusage says: that is never below what the parent had.
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps(["peak", int(status["VmHWM"].split()[0]) / 1024, 0]))
"""
MOST_MIB = 1024
MOST_SECONDS = 10.0


def audit_in_a_process(names):
    """Audit each file in one process; return ({name: what came}, {name: seconds}, peak MiB)."""
    done = subprocess.run(
        [sys.executable, "-c", AUDITOR],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    *rows, (_, peak, _) = rows
    assert [name for name, _, _ in rows] == names
    return {n: said for n, said, _ in rows}, {n: seconds for n, _, seconds in rows}, peak


def test_each_of_the_nasty_files_gives_a_report_or_a_clear_error(workspace):
    files = nasty.small()
    for name, content in files.items():
        (workspace / name).write_bytes(content)
    special = workspace / "special"
    special.mkdir()
    names = [*files, *(f"special/{name}" for name in nasty.make_special(special))]
    assert len(names) >= 130
    told, seconds, peak = audit_in_a_process(names)
    assert max(seconds.values()) < MOST_SECONDS, max(seconds, key=seconds.get)
    assert peak < MOST_MIB
    # Not everything is refused: good rows around a bad one are read.
    for name in ("nan.jsonl", "deep-list.jsonl", "ff.jsonl", "overlong.jsonl", "open-quote.csv"):
        assert told[name].startswith(("ready", "not_ready")), (name, told[name])
    no_data = [name for name in told if name.endswith("-as.jsonl") or "par1" in name]
    for name in ("special/fifo.jsonl", "special/zero.jsonl", *no_data):
        assert told[name] in {"BadData", "BadInput", "OutsideWorkspace"}, (name, told[name])


@pytest.mark.parametrize("depth", [10, 900, 1100, 10_000])
@pytest.mark.parametrize("name", ["d.jsonl", "d.json"])
def test_any_nesting_is_a_finding_and_the_rows_around_it_are_read(folder, depth, name):
    deep = "[" * depth + "]" * depth
    row = '{"prompt": "a", "completion": "b", "more": %s}' % deep  # noqa: UP031
    plain = ['{"prompt": "c%d", "completion": "d%d"}' % (at, at) for at in range(3)]  # noqa: UP031
    rows = [plain[0], row, *plain[1:]]
    content = "\n".join(rows) if name == "d.jsonl" else f"[{','.join(rows)}]"
    report = audit_and_check(folder, name, content.encode())
    assert report.num_examples == 4
    assert report.num_usable >= 3


def test_memory_stays_bounded_on_one_row_of_a_hundred_megabytes(folder):
    with (folder / "big.jsonl").open("wb") as stream:
        stream.write(b'{"prompt": "first question", "completion": "first answer"}\n{"text": "')
        for _ in range(100):
            stream.write(b"x" * 2**20)
        stream.write(b'"}\n{"prompt": "last question", "completion": "last answer"}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = perform(AuditRequest(path="big.jsonl"))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert [(f.id, f.rows) for f in report.findings if f.severity == "error"] == [
        ("row_too_long", [2])
    ]
    assert grown < 60
    (folder / "big.jsonl").unlink()


@QUICK
@given(st.text(max_size=300), st.integers(1, 200))
def test_a_quotation_is_a_json_string_without_anything_that_hides(text, max_chars):
    shown, is_whole = quote(text, max_chars)
    back = json.loads(shown)
    assert len(back) <= max_chars
    assert len(shown) <= 2 * max_chars + 2
    assert text.startswith(back)
    assert is_whole == (back == text)
    hidden = {
        chr(c) for c in [*range(32), 0x7F, 0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F)]
    }
    assert not hidden & set(shown)
