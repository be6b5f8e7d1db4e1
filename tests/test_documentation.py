"""What is written must be what is there."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from docs import session
from ft_tools import errors
from ft_tools.cli import main as cli
from ft_tools.tools import TOOLS
from ft_tools.views.terminal import END_CODES

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "SKILL.md", "AGENTS.md", "CHANGELOG.md"]
REFERENCES = sorted((ROOT / "references").glob("*.md"))
ALL = [*PAGES, *(f"references/{path.name}" for path in REFERENCES)]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "SKILL.md"])
@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_is_named_in(page, tool):
    assert f"`{tool}`" in read(page)


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda path: path.name)
def test_every_reference_is_linked_from_the_skill(reference):
    assert reference.name in read("SKILL.md")


@pytest.mark.parametrize("page", ALL)
def test_every_link_inside_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if target.startswith(("http://", "https://", "skill://")):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page} links {target}"
        assert not anchor or anchor in anchors(path.read_text("utf-8")), f"{page} links {target}"


def anchors(text: str) -> set[str]:
    """Return the names that GitHub gives to the headings of a page.

    >>> sorted(anchors("# One, two\\n## `three` four"))
    ['one-two', 'three-four']
    """
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL)
def test_every_address_is_well_formed(page):
    """Whether a page answers is not asked: the tests run without a network."""
    for address in re.findall(r"https?://[^\s)`>\"|]+", read(page)):
        parts = urlsplit(address)
        assert parts.hostname, address
        is_local = parts.hostname == "127.0.0.1"
        assert is_local or (parts.scheme == "https" and "." in parts.hostname), address
        assert address[-1] not in ".,;'", f"{page}: {address}"


@pytest.mark.parametrize("page", ALL)
def test_every_file_of_this_repository_that_is_named_is_there(page):
    rooms = "ft_tools|mcp_server|tests|benchmarks|references|docs|facts"
    for name in re.findall(rf"`((?:{rooms})/[\w/.-]+)", read(page)):
        if "NAME" in name or "ROOM" in name:
            continue
        assert (ROOT / name).exists(), f"{page} names {name}"


def test_every_file_of_the_guide_for_contributors_is_there():
    named = set(re.findall(r"`([a-z_]+/[a-z_/]*(?:\.py|\.toml)?)`", read("AGENTS.md")))
    assert len(named) > 20
    assert [
        name for name in named if not any((ROOT / at / name).exists() for at in ("", "ft_tools"))
    ] == []


@pytest.mark.parametrize("page", ["README.md", "SKILL.md"])
def test_every_command_shown_exists(page):
    shown = set(re.findall(r"fine-tuning-llm ([a-z][a-z-]+)", read(page)))
    assert shown <= set(cli.app)


PAGES_WITH_COMMANDS = ["README.md", "SKILL.md", *(f"references/{path.name}" for path in REFERENCES)]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS)
def test_every_command_shown_is_read_as_it_stands(page):
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", read(page), re.DOTALL):
        for line in re.findall(r"^fine-tuning-llm (.+)$", block, re.MULTILINE):
            words = shlex.split(line, comments=True)
            if "..." not in words and words[0] in cli.app:
                cli.app.parse_args(words, exit_on_error=False, print_error=False)


def test_the_session_that_is_shown_was_recorded_with_commands_that_exist():
    rows = (ROOT / "docs" / "session.cast").read_text(encoding="utf-8").splitlines()
    events = [(at, shown) for at, _, shown in map(json.loads, rows[1:])]
    said = "".join(shown for _, shown in events)
    for command in session.COMMANDS:
        typed = command.replace("\n", "\r\n")
        assert f"{typed}\r\n" in said, "record it again: python docs/session.py"
        words = shlex.split(command.partition(" --format human |")[0])
        cli.app.parse_args(words[1:], exit_on_error=False, print_error=False)
    drawn = (ROOT / "docs" / "session.svg").read_text(encoding="utf-8")
    assert drawn == session.drawn(events)
    assert "docs/session.svg" in read("README.md")


# Words of our own, and phrases that a native reader reads twice: see AGENTS.md, Errors and text.
FOREIGN = re.compile(
    r"\b(mend(s|ed|ing)?|fate|strat(um|a)|twins?|the one door|go(es|ing)? on (when|from|until)"
    r"|(are|is) told|wants? to be|an? own|data sets?|in bulk|belongs? into)\b",
    re.IGNORECASE,
)
GENERATED = re.compile(r"<!-- table (\w+), from .*?<!-- end of \1 -->", re.DOTALL)


@pytest.mark.parametrize("page", ALL)
def test_a_page_has_no_private_words(page):
    assert [found[0] for found in FOREIGN.finditer(GENERATED.sub("", read(page)))] == []


def test_what_a_model_reads_of_the_tools_has_no_private_words():
    listed = (ROOT / "tests" / "protocol" / "tools_list.json").read_text(encoding="utf-8")
    assert len(listed) > 10_000
    assert [found[0] for found in FOREIGN.finditer(listed)] == []


def test_private_words_would_be_found():
    said = "One door to the data set: it goes on when you mend it, and its twins belong into it."
    assert len(list(FOREIGN.finditer(said))) == 5


def test_every_exit_code_is_written_down():
    described = set(map(int, re.findall(r"(\d+) [a-z]", read("README.md").split("Exit codes:")[1])))
    used = {value.exit_code for value in vars(errors).values() if hasattr(value, "exit_code")}
    assert used | set(END_CODES.values()) | {0, 2} <= described


def test_the_guide_for_contributors_is_short_enough_to_be_read_whole():
    assert len(read("AGENTS.md").splitlines()) <= 170


def test_nothing_names_a_machine_or_a_package_registry():
    here = [str(ROOT), f"{Path.home()}/"]
    paths = "|".join(f"(?<!/self){re.escape(path)}" for path in here)
    forbidden = re.compile(rf"{paths}|--(extra-)?index-url")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".png", ".gguf", ".xz"} or path == Path(__file__) or not path.is_file():
            continue
        assert not forbidden.search(path.read_text(encoding="utf-8")), name
