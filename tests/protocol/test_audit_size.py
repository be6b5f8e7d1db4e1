"""What an audit costs an agent: concise reports of real files are small, details are paged."""

import shutil
from pathlib import Path

import pytest

from ft_tools.data.understand.lengths import estimate_tokens

SHARED = Path(__file__).parents[3] / "shared" / "data"
RICHEST = ["glaive_toolcall_en_demo.json", "dpo_en_demo.json", "identity.json"]
FILES = sorted(path.name for path in SHARED.glob("*.json*"))
MOST_TOKENS = 2000
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not FILES, reason=f"{SHARED} is not here"),
]


def each():
    """Every real file at full size; the ones with the most findings in the plain suite."""
    rest = [name for name in FILES if name not in RICHEST]
    return [*RICHEST, *(pytest.param(name, marks=pytest.mark.faults) for name in rest)]


async def told(client, **arguments):
    result = await client.call_tool("audit_dataset", arguments)
    assert not result.is_error
    return "".join(part.text for part in result.content), result.structured_content


@pytest.mark.parametrize("name", each())
async def test_a_concise_report_of_a_real_file_is_under_two_thousand_tokens(
    client, workspace, name
):
    shutil.copyfile(SHARED / name, workspace / name)
    text, _ = await told(client, path=name)
    assert estimate_tokens(text) < MOST_TOKENS


async def test_the_lines_of_a_finding_are_paged(client, workspace):
    name = RICHEST[0]
    shutil.copyfile(SHARED / name, workspace / name)
    pages = []
    for offset in (0, 30):
        _, report = await told(
            client, path=name, response_format="detailed", limit=30, offset=offset
        )
        found = {finding["id"]: finding for finding in report["findings"]}
        pages.append(found["repeated_prompt"]["lines"])
    assert [len(page) for page in pages] == [30, 30]
    assert pages[0][-1] < pages[1][0]
    assert len(report["findings"]) == report["num_findings"]
