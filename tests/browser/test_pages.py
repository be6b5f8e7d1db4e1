"""P17: in a real browser, the pages run no script, load nothing and are accessible.

They need Chromium (apt-get install chromium) and, for accessibility, axe-core: `make test-browser`
fetches it. Full size behind `faults`; without a browser they skip and say so.
"""

import json
import os
from pathlib import Path

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.pipeline import Methods
from ft_tools.data.request import AuditRequest
from ft_tools.evaluation.page import Sample, document
from ft_tools.evaluation.report import EvaluationReport
from ft_tools.formats.masking import Masked, no_masks
from tests.browser.chromium import Chromium, find_chromium
from tests.browser.payloads import PAYLOADS

AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))
# Payloads a page: a page shows a bounded number of examples.
A_PAGE = 20
pytestmark = pytest.mark.skipif(find_chromium() is None, reason="Chromium is not on this machine")


@pytest.fixture(scope="module")
def browser():
    browser = Chromium(find_chromium())
    yield browser
    browser.close()


def rows_with(payloads):
    """Put each payload where a page may show it: prompts, answers, pairs, roles, keys."""
    rows = []
    for payload in payloads:
        rows += [
            {"messages": [{"role": "user", "content": payload},
                          {"role": "assistant", "content": payload}]},
            {"messages": [{"role": payload, "content": "a"},
                          {"role": "assistant", "content": payload}]},
            {"prompt": payload, "chosen": payload, "rejected": f"{payload} b", payload: payload},
        ]  # fmt: skip
    return rows


def masks(example):
    """Show the payload as tokens too, as a model's tokenizer would cut it."""
    said = example.messages[-1]["content"] if example.messages else "x"
    pieces = tuple(
        (said[at : at + 7], ("context", "trained", "cut")[at % 3]) for at in range(0, len(said), 7)
    )
    return [Masked("", pieces)]


def audit_page(workspace, payloads, number):
    rows = rows_with(payloads)
    name = f"d{number}.jsonl"
    (workspace / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = AuditRequest(path=name, near_duplicates="off")
    # Half of the pages with the mask, half with the turns.
    means = Methods(page_to=workspace / f"{number}.html", masks=(no_masks, masks)[number % 2])
    perform(request, means)
    return workspace / f"{number}.html"


def evaluation_page(workspace, payloads):
    report = EvaluationReport.model_construct(
        tuned=payloads[0], baseline=payloads[1], summary=payloads[:3], notes=payloads[3:5],
        contamination=None, comparisons=[], benchmarks=[], general_ability=[], confusion={},
        outputs={},
    )  # fmt: skip
    samples = [
        Sample(at, text, text, {"a": text, "b": f"{text} b"}, -1.0)
        for at, text in enumerate(payloads)
    ]
    path = workspace / "evaluation.html"
    path.write_text(document(report, samples), encoding="utf-8")
    return path


def look(browser, page):
    """Open a page, unfold and touch everything in it; return what it tried."""
    before = len(browser.dialogs), len(browser.requests)
    browser.open(page)
    browser.evaluate(
        "for (const d of document.querySelectorAll('details')) d.open = true;"
        "for (const e of document.querySelectorAll('input, a, summary')) {"
        " e.dispatchEvent(new MouseEvent('mouseover', {bubbles: true})); if (e.focus) e.focus(); }"
        "new Promise(done => setTimeout(done, 200))"
    )
    made = [url for url in browser.requests[before[1] :] if url != page.as_uri()]
    return browser.dialogs[before[0] :], made


@pytest.mark.parametrize(
    "count", [20, pytest.param(200, marks=pytest.mark.faults)], ids=["plain", "full"]
)
def test_no_payload_runs_a_script_or_loads_anything(workspace, browser, count):
    payloads = PAYLOADS[:: len(PAYLOADS) // count]
    assert len(payloads) == count
    pages = [
        audit_page(workspace, payloads[at : at + A_PAGE], at // A_PAGE)
        for at in range(0, count, A_PAGE)
    ]
    pages.append(evaluation_page(workspace, payloads))
    for page in pages:
        assert look(browser, page) == ([], []), page
        shown = browser.evaluate("document.body.innerText.includes('alert(1)')")
        assert shown, "the payloads are not on the page, so this proves nothing"


def test_the_check_can_fail(workspace, browser):
    page = workspace / "bad.html"
    page.write_text("<img src='missing.png' onerror='alert(1)'>")
    assert look(browser, page) == (["1"], [(workspace / "missing.png").as_uri()])


@pytest.mark.faults
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1000])
def test_the_audits_page_has_no_accessibility_violation(workspace, browser, width, dark):
    if not AXE.is_file():
        pytest.skip(f"axe-core is not here ({AXE}); make test-browser fetches it")
    browser.shape(width, 900, dark=dark, mobile=width < 500)
    pairs = [
        {"prompt": f"Where is parcel {at}?", "chosen": f"**At** depot {at}.", "rejected": "No idea"}
        for at in range(60)
    ]
    (workspace / "d1.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    page = workspace / "page.html"
    perform(AuditRequest(path="d1.jsonl"), Methods(page_to=page, masks=masks))
    browser.open(page)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    browser.evaluate("for (const d of document.querySelectorAll('details')) d.open = true; 1")
    browser.evaluate(AXE.read_text(encoding="utf-8") + "; 1")
    found = browser.evaluate(
        "axe.run().then(r => r.violations.map("
        "v => v.id + ': ' + v.nodes.map(n => n.html).join(' | ')))"
    )
    assert found == []
