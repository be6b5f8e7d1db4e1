"""HTML pages: self-contained, escaped, deterministic, readable without colour."""

import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from ft_tools.views.charts import bar_chart, interval_chart, line_chart
from ft_tools.views.page import key_values, one_group, page, side_by_side, style, table

ATTACK = "<script>alert(1)</script>\"'&\u202e\x00\ud800"
VOID = {"meta", "circle", "line", "path", "rect", "br", "input"}


class Balance(HTMLParser):
    """Fails on a tag that is closed without having been opened."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def parsed(document):
    parser = Balance()
    parser.feed(document)
    assert parser.open == []
    return parser.seen


def everything(word=ATTACK):
    return page(
        word,
        {
            word: [word, key_values({word: word}), table([word], [[word], [1]])],
            "b": bar_chart([(word, 1.0)], title=word, x_label=word),
            "c": interval_chart([(word, -1, 0, 1)], title=word, x_label=word),
            "d": side_by_side([word, word], [[word, word]]),
            "f": one_group({f"{word} {n}": [word] for n in range(15)}),
            "empty": "",
        },
        lead=word,
        picture=line_chart({word: [(0, 1), (1, 2)]}, title=word, x_label=word, y_label=word),
        example=side_by_side([word], [[word]]),
        subtitle=word,
        refresh_seconds=5,
    )


def test_whatever_comes_from_data_is_escaped_and_the_document_is_well_formed():
    document = everything()
    assert {tag for tag, _ in parsed(document)} & {"script", "iframe", "object", "embed"} == set()
    assert "<script" not in document
    assert "\u202e" not in document
    assert "\x00" not in document
    assert "\\u202e" in document
    document.encode("utf-8")


def test_each_button_of_a_group_shows_its_pieces_and_the_last_one_those_of_many_groups():
    seen = parsed(one_group({str(n): ["piece"] * n for n in range(1, 15)}))
    classes = [attrs["class"].split()[1] for tag, attrs in seen if tag == "article"]
    assert {name: classes.count(name) for name in set(classes)} == {
        **{f"g{n}": n for n in range(1, 12)},
        "g12": 12 + 13 + 14,
    }
    assert [attrs["id"] for tag, attrs in seen if tag == "input"] == [
        f"show-{n}" for n in range(13)
    ]
    assert all(f"#show-{n}:checked~article:not(.g{n})" in style() for n in range(1, 13))


def test_a_page_loads_nothing_from_anywhere():
    document = everything("plain")
    attributes = [name for _, attrs in parsed(document) for name in attrs]
    assert not {"src", "srcset", "action", "onclick", "onload"} & set(attributes)
    links = [attrs["href"] for _, attrs in parsed(document) if "href" in attrs]
    assert links
    assert all(link.startswith("#") for link in links)
    assert "url(" not in style()
    assert "@import" not in style()
    assert "default-src 'none'" in document
    assert "img-src data:" in document


def test_a_chart_has_a_title_a_description_and_its_numbers_in_a_table():
    chart = line_chart(
        {"loss": [(0, 2.0), (10, 1.0)]}, title="Loss by step", x_label="step", y_label="loss"
    )
    tags = parsed(chart)
    plots = [attrs for tag, attrs in tags if tag == "svg" and "role" in attrs]
    assert [attrs["role"] for attrs in plots] == ["img"]
    assert chart.count("<title>Loss by step</title>") == 1
    assert "from 2 to 1" in re.search(r"<desc>(.*?)</desc>", chart).group(1)
    assert "<details>" in chart
    assert '<td class="num">10</td><td class="num">1</td>' in chart


@given(
    st.lists(
        st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.none() | st.floats(width=64)),
        max_size=30,
    )
)
def test_any_numbers_make_a_well_formed_chart(points):
    chart = line_chart({"a": points}, title="t", x_label="x", y_label="y")
    parsed(chart)
    coordinates = re.findall(r' d="M([^"]*)"', chart)
    assert all("nan" not in one and "inf" not in one for one in coordinates)
