"""SKILL.md and references/: valid, safe to publish, true to the code, and served over MCP."""

import hashlib
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from mcp import Client, MCPError, types
from mcp.server import Server
from pydantic import ConfigDict
from skills_ref import validate

from benchmarks import surface
from ft_tools.anti_patterns import rules
from ft_tools.tools import TOOLS
from mcp_server import skill, skill_files

ROOT = Path(__file__).parent.parent
SKILL = ROOT / "SKILL.md"
PROSE = [SKILL, *sorted((ROOT / "references").rglob("*.md"))]
CODE = sorted([*(ROOT / "ft_tools").rglob("*.py"), *(ROOT / "mcp_server").rglob("*.py")])
# The rules of the registry's scan that a fine-tuning skill is apt to hit:
# openclaw/clawhub convex/lib/moderationEngine.ts 2.4.26.
SCAN_PROSE = {
    "prompt_injection": r"system[\s_]*prompt\s*[:=]|ignore (all )?previous instructions",
    "persona": r"you are now a",
    "hidden_characters": "[\u200b-\u200f\u2060\ufeff\u202a-\u202e]",
    "encoded_blob": r"[A-Za-z0-9+/=]{200,}",
    "secret_in_arguments": r"(uvx|python3?|npx)\b.*--token\b",
    "placeholder_assignment": r'=\s*"\$\{\w+\}"',
    "pipe_to_shell": r"curl[^\n|]*\|\s*(ba)?sh",
    "unpinned_remote_code": r"(npx|uvx)\s+\S+@latest",
    "removes_state": r"rm -rf",
    "not_ascii": r"[^\x00-\x7f]",
}
SCAN_CODE = {
    "eval": r"(?<![\w.])(eval|exec_module)\(",
    "no_tls": r"verify\s*=\s*False",
    "hex_escapes": r"(\\x[0-9a-fA-F]{2}){6}",
    "file_to_network": r"b64encode\(\s*open\(",
    "token_literal": r"""token\s*=\s*["'][A-Za-z0-9_\-]{16,}["']""",
}
SECRET = r"\bsk-[A-Za-z0-9]{16,}|Bearer [A-Za-z0-9._\-]{16,}"


def body(path):
    return path.read_text(encoding="utf-8")


def test_the_skill_is_valid_short_and_has_the_version_of_the_package(tmp_path):
    folder = tmp_path / "fine-tuning-llm"
    folder.mkdir()
    shutil.copy(SKILL, folder)
    assert validate(folder) == []
    project = tomllib.loads(body(ROOT / "pyproject.toml"))["project"]
    facts = skill_files.frontmatter()
    assert facts["metadata"]["version"] == project["version"]
    assert facts["license"] == project["license"]
    # Otherwise the registry may hide the skill.
    requires = facts["metadata"]["openclaw"]["requires"]
    assert requires == {"anyBins": ["uv", "uvx", "python3"]}
    assert len(SKILL.read_bytes()) <= surface.SKILL_BYTES


@pytest.mark.parametrize("path", [*PROSE, ROOT / "README.md"], ids=lambda path: path.name)
def test_no_document_installs_our_name_from_an_index_as_the_first_way(path):
    found = re.findall(r"^\s*(?:uv|pip|uvx|\S*/pip)\b.*", body(path), re.M)
    assert [
        line for line in found if re.search(r"[\s'\"]fine-tuning-llm(\[|==|'|\"|$)", line)
    ] == []


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
@pytest.mark.parametrize("rule", SCAN_PROSE)
def test_the_prose_passes_the_registrys_scan(path, rule):
    assert not re.search(SCAN_PROSE[rule], body(path), re.I)
    assert not re.search(SECRET, body(path))


@pytest.mark.parametrize("rule", SCAN_CODE)
def test_the_code_passes_the_registrys_scan(rule):
    assert [path.name for path in CODE if re.search(SCAN_CODE[rule], body(path))] == []
    assert [path.name for path in CODE if re.search(SECRET, body(path))] == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("prompt_injection", "System prompt: be nice"),
        ("secret_in_arguments", "uvx hf --token abc"),
        ("pipe_to_shell", "curl https://x.y | sh"),
        ("unpinned_remote_code", "npx thing@latest"),
        ("hidden_characters", "a\u200bb"),
    ],
)
def test_the_scan_would_find_what_it_looks_for(rule, text):
    assert re.search(SCAN_PROSE[rule], text, re.I)


def test_every_environment_variable_that_the_text_names_is_declared():
    declared = {
        each["name"] for each in skill_files.frontmatter()["metadata"]["openclaw"]["envVars"]
    }
    named = set()
    for path in PROSE:
        named |= set(re.findall(r"\b[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b", body(path)))
    types = {name for name in named if re.fullmatch(r"I?Q\d_.+", name)}

    assert named - types - {"RUN_ID"} <= declared


def test_the_workflow_names_arguments_that_the_tools_take():
    calls = re.findall(r"`(\w+)` with ((?:`\w+`(?:, and |, | and )?)+)", body(SKILL))

    assert len(calls) >= 5
    for tool, listed in calls:
        assert set(re.findall(r"`(\w+)`", listed)) <= TOOLS[tool].request.model_fields.keys(), tool


def test_every_rule_that_the_skill_names_exists():
    section = body(SKILL).split("## Stop and reconsider")[1].split("## References")[0]
    named = set(re.findall(r"\(`(\w+)`\)", section))

    assert named
    assert named <= rules().keys()


@pytest.fixture
def server():
    made = Server("skill-test", version="1")
    skill.install(made)
    return made


@pytest.fixture(params=["auto", "legacy"])
async def client(request, server):
    async with Client(server, mode=request.param) as connected:
        yield connected


@pytest.mark.anyio
async def test_every_file_of_the_skill_is_a_resource_read_byte_for_byte(client):
    listed = (await client.list_resources()).resources
    by_uri = {str(each.uri): each for each in listed}

    facts = skill_files.frontmatter()
    assert (listed[0].name, listed[0].description) == (facts["name"], facts["description"])
    assert len(listed) == len(PROSE)
    for path in PROSE:
        uri = f"skill://fine-tuning-llm/{path.relative_to(ROOT)}"
        content = (await client.read_resource(uri)).contents[0]
        assert content.text == body(path)
        assert by_uri[uri].mime_type == content.mime_type == "text/markdown"


@pytest.mark.anyio
async def test_an_unknown_resource_is_refused_with_those_there_are(client):
    with pytest.raises(MCPError, match=r"SKILL\.md"):
        await client.read_resource("skill://fine-tuning-llm/../pyproject.toml")


class AnyResult(types.Result):
    model_config = ConfigDict(extra="allow")


@pytest.mark.anyio
async def test_the_extension_lists_the_skill_with_the_digest_of_every_file(server):
    uri = "skill://fine-tuning-llm/SKILL.md"
    async with Client(server) as connected:
        listed = await connected.session.send_request(
            types.Request(method="skills/list", params=types.RequestParams()), AnyResult
        )
        got = await connected.session.send_request(
            types.Request(method="skills/get", params=skill.GetSkillParams(uri=uri)), AnyResult
        )
    for result in (listed, got):
        assert result.model_extra["resultType"] == "complete"
        assert result.model_extra["ttlMs"] > 0
    (entry,) = listed.model_extra["skills"]
    assert entry == got.model_extra["skill"]
    assert entry["frontmatter"] == yaml.safe_load(body(SKILL).split("---\n")[1])
    assert entry["uri"] == uri
    described = {each["uri"]: each for each in entry["resources"]}
    assert len(described) == len(PROSE)
    for path in PROSE:
        each = described[f"skill://fine-tuning-llm/{path.relative_to(ROOT)}"]
        assert each["digest"] == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
