"""What is published says the same everywhere, and carries what it needs."""

import json
import subprocess
import sys
import tomllib
import zipfile

import pytest
from skills_ref import validate

from mcp_server.connect.clients import NAME
from release.assemble import CATEGORIES, PARTS, ROOT, TOPICS, assemble, facts

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    assemble(folder)
    return folder


def manifests(out):
    return sorted(
        path
        for path in out.rglob("*.json")
        if not {"skills", "clawhub", "ft_tools", "mcp_server"} & set(path.relative_to(out).parts)
    )


def test_every_manifest_has_the_name_and_the_version_of_the_package(out):
    found = {str(path.relative_to(out)): json.loads(path.read_text()) for path in manifests(out)}
    assert set(found) == {
        f"agent-plugins/{NAME}/mcp.json",
        f"agent-plugins/{NAME}/plugin.json",
        "claude-marketplace/.claude-plugin/marketplace.json",
        f"claude-marketplace/{NAME}/.claude-plugin/plugin.json",
        f"claude-marketplace/{NAME}/.mcp.json",
        f"codex/{NAME}/.codex-plugin/plugin.json",
        f"cursor/{NAME}/.cursor-plugin/plugin.json",
        f"gemini/{NAME}/gemini-extension.json",
        "mcpb/manifest.json",
        "server.json",
    }
    for path, manifest in found.items():
        if path.endswith("mcp.json"):
            assert list(manifest["mcpServers"]) == [NAME]
        elif "marketplace.json" in path:
            assert [each["version"] for each in manifest["plugins"]] == [VERSION]
        else:
            assert manifest["version"] == VERSION, path
            assert manifest["name"].endswith(NAME), path


def test_every_server_runs_the_package_of_its_own_bundle(out):
    for path in manifests(out):
        for server in json.loads(path.read_text()).get("mcpServers", {}).values():
            assert server["command"] == "uvx"
            root, _, rest = server["args"][1].partition("}")
            assert root.startswith("${")
            assert (path.parent / rest.lstrip("/") / "pyproject.toml").is_file()


def test_the_skill_folder_is_valid_and_installable_and_has_no_tests(out):
    folder = out / "clawhub" / NAME
    assert validate(folder) == []
    assert {path.name for path in folder.iterdir()} == set(PARTS)
    assert not [path for path in folder.rglob("*") if path.suffix == ".pyc"]
    # What its registry takes.
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 50 * 2**20
    assert (len(CATEGORIES), len(TOPICS)) <= (3, 5)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import ft_tools.tools as t; print(t.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(folder))


def test_the_click_bundle_is_the_same_for_the_same_files(out, tmp_path):
    assemble(tmp_path)
    name = f"{NAME}-{VERSION}.mcpb"
    assert (out / name).read_bytes() == (tmp_path / name).read_bytes()
    with zipfile.ZipFile(out / name) as bundle:
        names = bundle.namelist()
        assert json.loads(bundle.read("manifest.json"))["server"]["entry_point"] in names
    assert "pyproject.toml" in names


def test_the_registry_entry_declares_each_variable_and_which_are_secrets(out):
    (package,) = json.loads((out / "server.json").read_text())["packages"]
    declared = {each["name"]: each["isSecret"] for each in package["environmentVariables"]}
    assert declared.keys() == {each["name"] for each in facts().variables}
    assert declared["HF_TOKEN"]
    assert not declared["FINE_TUNING_LLM_WORKSPACE"]
