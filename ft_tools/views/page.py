"""One self-contained HTML page: no network, no script, light and dark, phone and paper.

The same input gives the same bytes. The pieces a section is made of come from `markup` and
`charts` and are named here too, so a report needs one import.
"""

from collections.abc import Mapping, Sequence

from ft_tools.views.charts import bar_chart, histogram, interval_chart, line_chart
from ft_tools.views.html_escape import Html, escape
from ft_tools.views.markup import (
    badge,
    details,
    key_values,
    note,
    number,
    side_by_side,
    table,
    text,
)

__all__ = [
    "Html",
    "badge",
    "bar_chart",
    "details",
    "escape",
    "histogram",
    "interval_chart",
    "key_values",
    "line_chart",
    "note",
    "number",
    "page",
    "side_by_side",
    "table",
    "text",
]

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)


def page(
    title: str,
    sections: Mapping[str, str],
    *,
    lead: str = "",
    picture: str = "",
    example: str = "",
    subtitle: str = "",
    refresh_seconds: int | None = None,
    style: str = "",
) -> str:
    """Return a whole HTML document: one sentence, one picture, one example, then the sections.

    Args:
        title: Escaped here, like every heading.
        sections: Heading -> HTML, taken as it is; an empty one is left out.
        lead: The result in a sentence, as HTML.
        picture: The chart that shows it.
        example: An example of it, as HTML.
        subtitle: A line below the title.
        refresh_seconds: Let the browser read the file again, for a run that is still going.
        style: CSS that this kind of page adds to that of all pages; taken as it is.
    """
    refresh = f'<meta http-equiv="refresh" content="{refresh_seconds}">' if refresh_seconds else ""
    under = f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""
    filled = {heading: html for heading, html in sections.items() if html}
    body = "".join(
        f'<section id="part-{i}"><h2>{escape(heading)}</h2>{html}</section>'
        for i, (heading, html) in enumerate(filled.items(), 1)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta name="referrer" content="no-referrer">'
        f"{refresh}<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n"
        f"<body><main><header><h1>{escape(title)}</h1>{under}</header>"
        f"{lead}{picture}{example}{_contents(list(filled))}{body}</main></body></html>\n"
    )


def _contents(headings: Sequence[str]) -> str:
    if len(headings) < 4:
        return ""
    links = "".join(
        f'<li><a href="#part-{i}">{escape(heading)}</a></li>'
        for i, heading in enumerate(headings, 1)
    )
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


# Text colours keep a contrast of at least 4.5:1 on --paper and --card, lines at least 3:1.
STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf8;--card:#ffffff;--ink:#22252a;--soft:#5b616b;
--rule:#e3e0da;--accent:#1f5f8b;--good:#1d6b43;--bad:#a3302a;--warn:#7d5200;
--s0:#1f5f8b;--s1:#b0521b;--s2:#3f7d3a;--s3:#7a4a9c;--s4:#8a6d00;--s5:#a5356b}
@media (prefers-color-scheme:dark){:root{--paper:#16181c;--card:#1d2025;--ink:#e4e6ea;
--soft:#a3a9b4;--rule:#343941;--accent:#7fb8e0;--good:#7fcf9f;--bad:#f0948c;--warn:#e2b765;
--s0:#7fb8e0;--s1:#f0a36b;--s2:#8fcb86;--s3:#c9a4e6;--s4:#dcc060;--s5:#f08fb8}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
font:1rem/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:46rem;margin:0 auto;padding:2.5rem 1rem 4rem}
header{margin-bottom:2rem}
h1{font-size:1.75rem;line-height:1.2;letter-spacing:-.015em;margin:0;font-weight:650}
h2{font-size:1.15rem;line-height:1.3;margin:2.75rem 0 .75rem;padding-top:1.1rem;
border-top:1px solid var(--rule);font-weight:650}
h3{font-size:1rem;margin:1.75rem 0 .5rem}
p{margin:.5rem 0;max-width:68ch;overflow-wrap:anywhere}
a{color:var(--accent);text-underline-offset:.15em}
.subtitle{color:var(--soft);margin-top:.4rem}
.note{color:var(--soft);font-size:.875rem}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;list-style:none;margin:0;padding:0;
font-size:.9rem}
.scroll{overflow-x:auto;margin:.75rem 0}
.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.9rem;line-height:1.45}
caption{text-align:left;color:var(--soft);padding-bottom:.35rem}
th,td{text-align:left;padding:.42rem .9rem .42rem 0;border-bottom:1px solid var(--rule);
vertical-align:top}
th{font-weight:600;color:var(--soft)}
th.num,td.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th:last-child,td:last-child{padding-right:0}
dl.facts{display:grid;grid-template-columns:minmax(7rem,max-content) 1fr;gap:.3rem 1.5rem;
margin:.75rem 0;font-size:.95rem}
dl.facts dt{color:var(--soft)}
dl.facts dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
figure{margin:1.25rem 0;padding:1rem;background:var(--card);border:1px solid var(--rule);
border-radius:8px}
figcaption{font-weight:600;margin-bottom:.5rem}
svg.plot{display:block;width:100%;height:auto}
svg.narrow{display:none}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--soft);
paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
svg text.label{fill:var(--ink);font-size:13px}
svg text.value{fill:var(--ink);font-variant-numeric:tabular-nums}
.grid{stroke:var(--rule);stroke-width:1}
.zero{stroke:var(--soft);stroke-width:1.25}
svg text.label,svg text.value{paint-order:stroke;stroke:var(--card);stroke-width:5px;
stroke-linejoin:round}
.line{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}
.dense .line{stroke-width:1.4}
.dot{fill:currentColor}
.bar{fill:var(--s0)}
.whisker{stroke:var(--s0);stroke-width:2}
.point{fill:var(--s0);stroke:var(--s0);stroke-width:2}
.point.hollow{fill:var(--card)}
.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}
.s4{color:var(--s4)}.s5{color:var(--s5)}
ul.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.25rem;list-style:none;margin:0 0 .5rem;
padding:0;font-size:.875rem}
.legend svg{vertical-align:middle}
.legend .last{color:var(--soft);font-variant-numeric:tabular-nums}
details{margin:.5rem 0 0;font-size:.9rem}
summary{cursor:pointer;color:var(--soft);width:max-content;max-width:100%}
.badge{display:inline-block;padding:.05rem .5rem;border:1px solid currentColor;
border-radius:999px;font-size:.8rem;line-height:1.5;white-space:nowrap;color:var(--soft)}
.badge.good{color:var(--good)}.badge.bad{color:var(--bad)}.badge.warn{color:var(--warn)}
article.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,13rem),1fr));
gap:.75rem 1.25rem;padding:.9rem 0;border-bottom:1px solid var(--rule)}
article.square{grid-template-columns:repeat(auto-fit,minmax(min(100%,18rem),1fr))}
.side{min-width:0}
.side h4{margin:0 0 .25rem;font-size:.8rem;font-weight:600;color:var(--soft)}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;
font:.85rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
mark{background:none;color:inherit;text-decoration:underline;text-decoration-thickness:2px;
text-underline-offset:.2em;text-decoration-color:var(--s1)}
.empty{color:var(--soft);font-style:italic}
@media (max-width:40rem){main{padding:1.5rem 1rem 3rem}svg.wide{display:none}
svg.narrow{display:block}figure{padding:.75rem .5rem;margin-left:-.5rem;margin-right:-.5rem}
figcaption,.legend,figure details,figure .note{margin-left:.25rem}
dl.facts{grid-template-columns:1fr;gap:0}dl.facts dd{margin-bottom:.5rem}}
@media print{:root{color-scheme:light;--paper:#fff;--card:#fff;--ink:#000;--soft:#444;
--rule:#bbb;--s0:#1f5f8b;--s1:#b0521b;--s2:#3f7d3a;--s3:#7a4a9c;--s4:#8a6d00;--s5:#a5356b;
--good:#1d6b43;--bad:#a3302a;--warn:#7d5200}
main{max-width:none;padding:0}nav,details{display:none}
svg.wide{display:block}svg.narrow{display:none}
figure,article.sides,tr{break-inside:avoid}h2{break-after:avoid}}
"""
