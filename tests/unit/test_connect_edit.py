"""Editing a client's own file: one entry changes, and nothing else."""

import json
import re

import pytest

from mcp_server.connect import json_edit, toml_edit

ENTRY = {"command": "/a b/fine-tuning-llm", "args": ["serve"], "env": {"X": "1"}}
PATH = ("mcpServers", "fine-tuning-llm")
FILES = {
    "empty object": "{}",
    "empty object and newline": "{}\n",
    "no servers": '{\n  "theme": "dark"\n}\n',
    "tabs": '{\n\t"mcpServers": {\n\t\t"other": {\n\t\t\t"command": "x"\n\t\t}\n\t}\n}\n',
    "four spaces": '{\n    "mcpServers": {\n        "other": {"command": "x"}\n    }\n}',
    "crlf": '{\r\n  "mcpServers": {\r\n    "other": {"command": "x"}\r\n  },\r\n  "a": 1\r\n}\r\n',
    "bom": '\ufeff{\n  "mcpServers": {\n    "other": {"command": "x"}\n  }\n}\n',
    "minified": '{"mcpServers":{"other":{"command":"x"}},"a":[1,2]}',
    "comments": (
        '// mine\n{\n  /* servers */\n  "mcpServers": {\n    // first\n    "other": {\n'
        '      "command": "x" // here\n    } // last\n  }, // end\n  "url": "http://x//y"\n}\n'
    ),
    "trailing commas": '{\n  "mcpServers": {\n    "other": {"x": "y",},\n  },\n  "a": 1,\n}\n',
    "empty servers": '{\n  "mcpServers": {},\n  "a": 1\n}\n',
    "json5": (
        "{\n  agents: { $b: 'it\\'s \"x\"' }, // mine\n  mcpServers: {\n"
        "    'other': { command: 'x' },\n  },\n}\n"
    ),
    "odd strings": '{\n  "mcpServers": {\n    "a\\"}{": {"command": "// no, \\\\"}\n  }\n}\n',
}


@pytest.mark.parametrize("name", FILES)
def test_an_entry_is_added_and_nothing_else_changes(name):
    before = FILES[name]
    after = json_edit.put(before, PATH, ENTRY)
    expected = json_edit.read(before)
    expected.setdefault("mcpServers", {})["fine-tuning-llm"] = ENTRY
    assert json_edit.read(after) == expected
    comments = re.compile(r"//[^\n]*|/\*.*?\*/")
    assert name == "odd strings" or comments.findall(after) == comments.findall(before)


@pytest.mark.parametrize("name", [name for name in FILES if "mcpServers" in FILES[name]])
def test_what_was_added_is_removed_to_the_byte(name):
    before = FILES[name]
    assert json_edit.remove(json_edit.put(before, PATH, ENTRY), PATH) == before


@pytest.mark.parametrize("name", FILES)
def test_a_changed_entry_is_replaced_in_its_place(name):
    once = json_edit.put(FILES[name], PATH, ENTRY)
    twice = json_edit.put(once, PATH, ENTRY | {"args": ["serve", "--http"]})
    assert json_edit.put(twice, PATH, ENTRY) == once


def test_names_and_strings_of_json5_are_read():
    found = json_edit.read(FILES["json5"])
    assert found == {"agents": {"$b": 'it\'s "x"'}, "mcpServers": {"other": {"command": "x"}}}


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_entry_between_others_is_removed_with_its_comma(at):
    names = ["a", "b"]
    names.insert(at, "fine-tuning-llm")
    for indent in (2, None):
        servers = {name: {"command": name} for name in names}
        text = json.dumps({"mcpServers": servers}, indent=indent)
        left = json_edit.remove(text, PATH)
        assert json.loads(left) == {"mcpServers": {n: {"command": n} for n in ("a", "b")}}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1',
        "[1]",
        '{"a" 1}',
        "{a-b: 1}",
        "{a: '1}",
        "{1a: 2}",
        '{"mcpServers": 3}',
        '{"a": 1} x',
        "",
        '{"a": 1 "b": 2}',
    ],
)
def test_a_file_that_is_not_understood_is_not_changed(text):
    with pytest.raises(json_edit.NotJson):
        json_edit.put(text, PATH, ENTRY)


TABLE = ("mcp_servers", "fine-tuning-llm")
CODEX = {
    "empty": "",
    "other tables": 'model = "x" # mine\n\n[mcp_servers.other]\ncommand = "y"\n\n[a]\nb = 1\n',
    "no newline at the end": '[mcp_servers.other]\ncommand = "y"',
    "crlf": 'model = "x"\r\n[a]\r\nb = 1\r\n',
    "comments": '# top\n[mcp_servers.other] # here\ncommand = "y"\n# last\n',
    "a header in a text": 'a = """\n[mcp_servers.fine-tuning-llm-not]\n"""\n',
}
VALUES = {"command": "C:\\x", "args": ["serve"], "env": {"A": 'q"'}, "tool_timeout_sec": 600}


@pytest.mark.parametrize("name", CODEX)
def test_a_table_is_appended_and_nothing_else_changes(name):
    before = CODEX[name]
    after = toml_edit.put(before, TABLE, VALUES)
    assert after.startswith(before)
    assert toml_edit.read(after)["mcp_servers"]["fine-tuning-llm"] == VALUES
    assert toml_edit.put(after, TABLE, VALUES) == after


WHOLE = [name for name in CODEX if CODEX[name][-1:] in ("", "\n")]


@pytest.mark.parametrize("name", WHOLE)
def test_a_table_is_removed_to_the_byte(name):
    assert toml_edit.remove(toml_edit.put(CODEX[name], TABLE, VALUES), TABLE) == CODEX[name]


def test_a_table_in_the_middle_is_replaced_with_its_subtables_and_the_next_comment_stays():
    before = (
        '[mcp_servers."fine-tuning-llm"]\ncommand = "old"\n\n[mcp_servers.fine-tuning-llm.env]\n'
        'A = "1"\n\n# of the next\n[b]\nc = 1\n'
    )
    after = toml_edit.put(before, TABLE, VALUES)
    assert after.endswith("\n\n# of the next\n[b]\nc = 1\n")
    assert toml_edit.read(after)["mcp_servers"] == {"fine-tuning-llm": VALUES}
    assert toml_edit.remove(after, TABLE) == "\n# of the next\n[b]\nc = 1\n"


@pytest.mark.parametrize(
    "text",
    [
        'mcp_servers = { fine-tuning-llm = { command = "x" } }\n',
        '[mcp_servers]\nfine-tuning-llm.command = "x"\n',
        "a = \n",
        'a = """\n[mcp_servers.fine-tuning-llm]\n"""\n',
    ],
)
def test_a_table_in_another_form_is_left_to_its_owner(text):
    with pytest.raises(toml_edit.NotToml):
        toml_edit.put(text, TABLE, VALUES)
