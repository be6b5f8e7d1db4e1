"""How the package was installed, and the command that changes it."""

import json
import sys
from dataclasses import replace

import pytest

from ft_tools import installation
from ft_tools.installation import Installation


def made(**given):
    return replace(Installation("pip", "/a b/skill", "0.1.0", False, (), "/v/py"), **given)


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ({}, "/v/py -m pip install '/a b/skill[train]'"),
        ({"editable": True}, "/v/py -m pip install --editable '/a b/skill[train]'"),
        ({"tool": "uv pip"}, "uv pip install --python /v/py '/a b/skill[train]'"),
        ({"tool": "uv tool"}, "uv tool install '/a b/skill[train]'"),
        ({"tool": "uv tool", "extras": ("data",)}, "uv tool install '/a b/skill[data,train]'"),
        ({"tool": "uvx"}, "uv tool install '/a b/skill[train]'"),
        ({"tool": "pipx"}, "pipx install --force '/a b/skill[train]'"),
        ({"source": ""}, "/v/py -m pip install 'fine-tuning-llm[train]==0.1.0'"),
        (
            {"source": "git+https://h/r@abc"},
            "/v/py -m pip install 'fine-tuning-llm[train] @ git+https://h/r@abc'",
        ),
    ],
)
def test_an_extra_is_added_the_way_this_installation_was_made(given, command):
    assert made(**given).command("train") == command


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """Give a function that writes an installed distribution and makes it the running one."""

    def install(record, *, receipt=""):
        info = tmp_path / "site" / "fine_tuning_llm-9.9.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fine-tuning-llm\nVersion: 9.9")
        if record:
            (info / "direct_url.json").write_text(json.dumps(record))
        if receipt:
            (tmp_path / "uv-receipt.toml").write_text(receipt)
        monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setattr(installation, "__file__", str(tmp_path / "site/ft_tools/x.py"))

    return install


def test_a_folder_that_was_installed_from_is_read_from_the_installation(environment, tmp_path):
    environment({"url": f"file://{tmp_path}/a%20b", "dir_info": {}})
    here = installation.this()
    assert here.source == f"{tmp_path}/a b"
    assert (here.version, here.editable) == ("9.9", False)
    assert "(that folder is gone" in installation.add_extras("data")


def test_the_extras_of_a_uv_tool_are_kept(environment, tmp_path):
    receipt = '[tool]\nrequirements = [{ name = "fine-tuning-llm", extras = ["eval"] }]'
    environment({"url": f"file://{tmp_path}", "dir_info": {}}, receipt=receipt)
    assert installation.add_extras("data") == f"uv tool install '{tmp_path}[data,eval]'"


def test_only_what_came_from_an_index_is_named_to_an_index(environment):
    environment(None)
    assert "'fine-tuning-llm[data]==9.9'" in installation.add_extras("data")
