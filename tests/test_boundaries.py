"""Who may import whom, and what the server loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted([*(ROOT / "ft_tools").rglob("*.py"), *(ROOT / "mcp_server").rglob("*.py")])
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "peft",
    "bitsandbytes",
    "datasets",
    "sentence_transformers",
    "accelerate",
    "lm_eval",
    "llama_cpp",
}
# What the process that answers `tools/list` must not load: the above, and whatever is slow or big.
SLOW = HEAVY | {"numpy", "pandas", "pyarrow", "scipy", "sklearn", "huggingface_hub", "cyclopts"}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "base", "manager", "misc"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_workers_import_a_heavy_library(path):
    if "workers" in path.parts:
        pytest.skip("a worker may")
    assert not {name.split(".")[0] for name in imports_of(path)} & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_imports_a_worker_but_a_worker(path):
    if "workers" in path.parts:
        pytest.skip("a worker may")
    assert not [name for name in imports_of(path) if name.startswith("ft_tools.workers")]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_domain_knows_nothing_of_the_protocol(path):
    if path.is_relative_to(ROOT / "mcp_server") or path.name == "demo.py":
        pytest.skip("the server and the demo speak it")
    assert not {name.split(".")[0] for name in imports_of(path)} & {"mcp", "mcp_server"}


def test_facts_and_errors_import_nothing_of_ours():
    for path in MODULES:
        if room_of(name_of(path)) in {"ft_tools.facts", "ft_tools.errors"}:
            ours = {n for n in imports_of(path) if n.startswith("ft_tools")}
            assert all(n.startswith(("ft_tools.errors", "ft_tools.facts")) for n in ours), path


def test_rooms_import_each_other_without_a_circle():
    edges: dict[str, set[str]] = {}
    for path in MODULES:
        room = room_of(name_of(path))
        targets = {room_of(n) for n in imports_of(path) if n.startswith(("ft_tools.", "mcp_"))}
        edges.setdefault(room, set()).update(targets - {room})
    done: set[str] = set()

    def visit(room: str, trail: tuple[str, ...]) -> None:
        assert room not in trail, " -> ".join([*trail, room])
        if room in done:
            return
        for target in sorted(edges.get(room, ())):
            visit(target, (*trail, room))
        done.add(room)

    for room in sorted(edges):
        visit(room, ())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_a_catch_all(path):
    assert path.stem not in FORBIDDEN_NAMES


def test_the_server_lists_its_tools_without_a_heavy_module():
    probe = "import sys, mcp_server.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert not SLOW & {name.split(".")[0] for name in loaded.stdout.split()}
