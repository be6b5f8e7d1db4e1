"""P17: in a real browser, the pages run no script and load nothing; skipped without Chromium."""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.pipeline import Methods
from ft_tools.data.request import AuditRequest
from ft_tools.evaluation.page import Sample, document
from ft_tools.evaluation.report import EvaluationReport

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not on this machine")
# Payloads a page: a page shows a bounded number of examples.
A_PAGE = 20
SCRIPT = "document.title=`ran`"
# Texts that try to run a script, load something or break out of their place in a page.
SHAPES = (
    "<script>{0}</script>",
    "<scr<script>ipt>{0}</scr</script>ipt>",
    "<img src=x onerror={0}>",
    "<svg onload={0}>",
    "<details open ontoggle={0}><summary>x</summary></details>",
    "<input autofocus onfocus={0}>",
    "<iframe srcdoc='<script>{0}</script>'></iframe>",
    "<a href='javascript:{0}' id=x>x</a><script>x.click()</script>",
    "<style>@import 'http://evil.example/x.css';</style><img src=x onerror={0}>",
    "<math><mtext><table><mglyph><style><img src=x onerror={0}></style></table></mtext></math>",
    "<object data='data:text/html,<script>{0}</script>'></object>",
    "<meta http-equiv=refresh content='0;url=javascript:{0}'>",
    "<base href='http://evil.example/'><script>{0}</script>",
    "<noscript><p title='</noscript><img src=x onerror={0}>'>",
    "<link rel=stylesheet href='http://evil.example/x.css' onload={0}>",
    "<object type=image/svg+xml data='http://evil.example/x.svg'></object><svg onload={0}>",
    '"><script>{0}</script>',
    "'><img src=x onerror={0}>",
    "</pre></div></details><script>{0}</script>",
    "</style><script>{0}</script>",
    "</title><script>{0}</script>",
    "--><script>{0}</script><!--",
    "</svg><script>{0}</script>",
    '" onmouseover="{0}" style="position:fixed;inset:0',
    "&lt;script&gt;{0}&lt;/script&gt;",
    "%3Cscript%3E{0}%3C/script%3E",
    "\\u003cscript\\u003e{0}\\u003c/script\\u003e",
    "\x00<script>{0}</script>",
    "\ufeff<script>{0}</script>",
    "<script\n>{0}</script\n>",
    "<img src=http://evil.example/p.gif>{0}",
    "![x](http://evil.example/p.png) [y](javascript:{0})",
    "url(http://evil.example/f.woff) {0}",
    "{{{{constructor.constructor('{0}')()}}}}",
)
PAYLOADS = [shape.format(SCRIPT) for shape in SHAPES]


class Proxy(BaseHTTPRequestHandler):
    """Stands for the network: notes what is asked of it, and has nothing."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_error(404)

    def do_CONNECT(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def network():
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def look(page, network, tmp_path):
    """Open a page; return the document that it became, and whether it ran or loaded something."""
    network.asked.clear()
    argv = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"),
        f"--proxy-server=http://127.0.0.1:{network.server_port}",
        *("--virtual-time-budget=3000", "--dump-dom", page.as_uri()),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    loads = [path for path in network.asked if "evil.example" in path]
    return done.stdout, "<title>ran</title>" in done.stdout, loads


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


def audit_page(workspace, payloads, number):
    rows = rows_with(payloads)
    name = f"d{number}.jsonl"
    (workspace / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = AuditRequest(path=name, near_duplicates="off")
    perform(request, Methods(page_to=workspace / f"{number}.html"))
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


def test_no_payload_runs_a_script_or_loads_anything(workspace, network, tmp_path):
    parts = [PAYLOADS[at : at + A_PAGE] for at in range(0, len(PAYLOADS), A_PAGE)]
    pages = [audit_page(workspace, part, number) for number, part in enumerate(parts)]
    for page in [*pages, evaluation_page(workspace, PAYLOADS)]:
        shown, ran, loads = look(page, network, tmp_path)
        assert (ran, loads) == (False, []), page
        assert SCRIPT in shown, "the payloads are not on the page, so this proves nothing"


def test_the_check_can_fail(workspace, network, tmp_path):
    page = workspace / "bad.html"
    page.write_text(f"<img src=no.png onerror='{SCRIPT}'><img src=http://evil.example/p.gif>")
    _, ran, loads = look(page, network, tmp_path)
    assert ran
    assert loads
