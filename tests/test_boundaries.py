"""Who may import whom, and what the server loads."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

from ft_tools.tools import TOOLS

ROOT = Path(__file__).parent.parent
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
MODULES = sorted([*(ROOT / "ft_tools").rglob("*.py"), *(ROOT / "mcp_server").rglob("*.py")])
OUTSIDE_WORKERS = [path for path in MODULES if "worker" not in path.parts]
# The demo is a client of the server, and speaks the protocol like it.
DOMAIN = [path for path in (ROOT / "ft_tools").rglob("*.py") if "demo" not in path.parts]
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


@cache
def imports_of(path: Path) -> frozenset[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{a.name}" for a in node.names}
    return frozenset(found)


BY_NAME = {name_of(path): path for path in MODULES}
# From what knows nothing of the others to what knows them all; a file imports its own level or one
# above it in this list.
FLOORS = (
    "facts errors installation requirements",
    "abandoned_calls anti_patterns concise contract findings next_steps publish reasons "
    "redaction system_errors workspace",
    "endpoints formats metrics models runs similarity",
    "views",
    "advice creation data evaluation explain lora memory shipping training",
    "tools doctor explain.tool explain.options",
    "cli __main__ demo mcp_server",
)
LEVELS = {room: level for level, rooms in enumerate(FLOORS) for room in rooms.split()}
LEVELS["ft_tools"] = 0


def level_of(module: str) -> int:
    """Return the floor of a file, which may differ from that of its room."""
    file = ".".join(module.split(".")[1:3])
    return LEVELS.get(file, LEVELS[room_of(module)])


def imported(path: Path) -> set[str]:
    """Return the modules of ours that a file imports, wherever in it."""
    names = imports_of(path)
    return {
        name
        for name in names
        if name in BY_NAME and not any(n.startswith(name + ".") for n in names)
    }


def room_of(module: str) -> str:
    """Return the first part of a module's name below the package.

    >>> room_of("ft_tools.data.tool"), room_of("mcp_server.http")
    ('data', 'mcp_server')
    """
    first, *rest = module.split(".")
    return rest[0] if first == "ft_tools" and rest else first


def packages_of(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def test_only_workers_import_a_heavy_library():
    assert [path for path in OUTSIDE_WORKERS if packages_of(path) & HEAVY] == []


def test_nothing_imports_a_worker_but_a_worker():
    for path in OUTSIDE_WORKERS:
        assert [name for name in imports_of(path) if "worker" in name.split(".")] == [], path


def test_the_domain_knows_nothing_of_the_protocol():
    assert [path for path in DOMAIN if packages_of(path) & {"mcp", "mcp_server"}] == []


def test_only_the_views_write_html():
    for path in MODULES:
        if room_of(name_of(path)) != "views":
            made = {name.rpartition(".")[2] for name in imports_of(path) if ".views." in name}
            assert not made & {"Html", "escape"}, path


def test_facts_and_errors_import_nothing_of_ours():
    for path in MODULES:
        if LEVELS[room_of(name_of(path))] == 0 and name_of(path) != "ft_tools":
            ours = {n for n in imports_of(path) if n.startswith("ft_tools.")}
            assert all(LEVELS[room_of(n)] == 0 for n in ours if n in BY_NAME), path


def test_no_file_imports_itself_however_far_around():
    edges = {name: imported(path) - {name} for name, path in BY_NAME.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module in done:
            return
        for target in sorted(edges[module]):
            visit(target, (*trail, module))
        done.add(module)

    for module in sorted(edges):
        visit(module, ())


def test_no_import_runs_back_up():
    for path in MODULES:
        for module in imported(path):
            assert level_of(module) <= level_of(name_of(path)), f"{path}: {module}"


def test_a_benchmark_imports_its_neighbours_as_make_bench_runs_it():
    """`python -m benchmarks.NAME` does not find them under their bare names."""
    neighbours = {path.stem for path in BENCHMARKS}
    bare = [(path.name, packages_of(path) & neighbours) for path in BENCHMARKS]
    assert [(name, found) for name, found in bare if found] == []


def test_an_import_leaves_the_environment_of_the_process_as_it_is():
    # A worker that imported a module for one function would lose its GPUs, or the Hub.
    changing = {
        name_of(path)
        for path in MODULES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.If))
        and ast.unparse(node).startswith("os.environ")
    }
    assert changing == {"ft_tools"}  # how OpenMP waits, before any library is loaded


def test_no_module_is_a_catch_all():
    assert [path for path in MODULES if path.stem in FORBIDDEN_NAMES] == []


def test_the_server_lists_its_tools_without_a_heavy_module():
    probe = "import sys, mcp_server.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert not SLOW & {name.split(".")[0] for name in loaded.stdout.split()}
    assert not {row.address.split(":")[0] for row in TOOLS.values()} & set(loaded.stdout.split())
