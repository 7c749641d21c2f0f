import csv
import io
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from harness.report.comparison.compare import SCHEMA, compare
from harness.report.tables import COLUMNS, COSTS, FORMATS, TEXT_DROPS, WIDTH, html_table, render

OURS = "in_training tau=0.1"


class Cells(HTMLParser):
    """The texts of a table's body cells, row by row, and whether every tag was closed."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.rows[-1].append(data)


def shown_cells(markdown, row):
    """The cells of the row that starts so, by column."""
    lines = markdown.splitlines()
    header, found = (
        next(line for line in lines if line.startswith(f"| {start}")) for start in ("row", row)
    )
    return dict(zip(header[2:-2].split(" | "), found[2:-2].split(" | "), strict=True))


@pytest.fixture
def comparison(two_tasks):
    return compare(two_tasks)


def test_an_unknown_format_is_refused_with_the_allowed_ones(comparison):
    with pytest.raises(ValueError, match="'xml': use one of text, md, csv, tex, html, json"):
        render(comparison, "xml")


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_ends_in_one_newline(comparison, name):
    text = render(comparison, name)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_csv_parses_back_with_every_column(comparison):
    rows = list(csv.DictReader(io.StringIO(render(comparison, "csv"))))
    assert list(rows[0]) == SCHEMA.names
    assert [row["label"] for row in rows] == list(comparison.label)
    assert float(rows[1]["metric_mean"]) == pytest.approx(0.85)  # not in percent
    assert rows[1]["seed_list"] == "0 1 2"
    assert rows[0]["difference_to_full"] == ""


def test_json_parses_back_with_every_column_and_nulls(comparison):
    document = json.loads(render(comparison, "json"))
    assert list(document["rows"][0]) == SCHEMA.names
    assert document["rows"][1]["seed_list"] == [0, 1, 2]
    assert document["rows"][1]["metric_mean"] == pytest.approx(0.85)
    assert document["rows"][0]["difference_to_small"] is None
    assert len(document["says"]) == 2
    assert document["notes"]


def test_html_parses_back_and_escapes(suite):
    label = "<b>small & cheap</b>"
    trials = suite().replace({"label": {"small as tau=0.1": label}})
    text = render(compare(trials), "html")
    parsed = Cells(text)
    assert parsed.open == []
    rows = [row for row in parsed.rows if row]
    assert len(rows) == 4
    assert rows[3][0] == label
    assert rows[1][:4] == [OURS, "8.0 ± 1.0", "3", "85.0 ± 12.4"]


def test_markdown_takes_a_label_for_text(suite):
    label = r"[a](b) `c` &lt; ~~d~~ *e* _f_ <g> \h | i"
    trials = suite().replace({"label": {"small as tau=0.1": label}})
    line = next(line for line in render(compare(trials), "md").splitlines() if "(b)" in line)
    cells = re.split(r"(?<!\\) \| ", line.removeprefix("| "))
    escaped = "".join(f"\\{c}" if c in r"\|*_<>`[]&~" else c for c in label)
    assert cells[0] == escaped


def test_tex_braces_balance_and_every_line_has_its_columns(suite):
    trials = suite().replace({"label": {"small as tau=0.1": r"small_{50%} & $x$ #1 \today ~^"}})
    text = render(compare(trials), "tex")
    body = [line for line in text.splitlines() if not line.startswith("%")]
    bare = re.sub(r"\\.", "", "\n".join(body))
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    lines = [line for line in body if line.endswith(r"\\") and "multicolumn" not in line]
    columns = len(re.search(r"begin\{tabular\}\{([lr]+)\}", text)[1])
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
    assert r"small\_\{50\%\} \& \$x\$ \#1 \textbackslash{}today" in text
    text.replace("\\\\", "").encode("ascii", "xmlcharrefreplace")


def test_markdown_rows_have_equal_columns(suite):
    trials = suite().replace({"label": {"small as tau=0.1": "small|pipe"}})
    lines = [line for line in render(compare(trials), "md").splitlines() if line[:1] == "|"]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert any("small\\|pipe" in line for line in lines)


def test_text_shows_percent_signs_and_verdict(comparison):
    lines = render(comparison, "text").splitlines()
    assert lines[0] == "digits: accuracy in %, higher is better"
    ours = next(line for line in lines if line.strip().startswith(OURS))
    for expected in ("85.0 ± 12.4", "−10.0 ± 0.0", "+11.7 ± 7.2", "better", "0.25×"):
        assert expected in ours
    assert "pylib: bits per byte, lower is better" in lines
    assert any("0.850 ± 0.124" in line and "worse" in line for line in lines)


@pytest.mark.parametrize("length", [10, 40, 200])
def test_text_keeps_to_its_width_and_says_what_it_dropped(suite, length):
    trials = suite().replace({"label": {"small as tau=0.1": "s" * length}})
    text = render(compare(trials), "text")
    assert max(map(len, text.splitlines())) <= WIDTH
    dropped = [name for name in TEXT_DROPS if f" {name}" not in text.splitlines()[1]]
    assert ("Not shown: " in text) == bool(dropped)
    assert all(name in text.split("Not shown: ")[1] for name in dropped)


def test_a_diverged_seed_is_shown(suite):
    trials = suite()
    trials.loc[(trials.label == OURS) & (trials.seed == 1), "status"] = "diverged"
    text = render(compare(trials), "text")
    assert "2 (1 div.)" in text
    assert "no interval and claims no win" in " ".join(text.split())
    assert "a seed diverged on one side" in " ".join(text.split())


def test_columns_without_a_number_are_left_out(suite):
    text = render(compare(suite().assign(exclusive=False)), "md")
    header = next(line for line in text.splitlines() if line.startswith("| row"))
    assert "time" not in header
    assert "seconds" not in header
    assert "12 of 12 are left out" in text
    assert "step ms" not in header


def test_recurrent_mode_has_columns_but_in_the_text_table(suite):
    comparison = compare(suite().assign(state_bytes=1056, step_latency_seconds=1.25e-4))
    shown = shown_cells(render(comparison, "md"), "full")
    assert (shown["step ms"], shown["state B"]) == ("0.125", "1056")
    assert "step ms" not in render(comparison, "text")
    for row in json.loads(render(comparison, "json"))["rows"]:
        assert (row["step_latency_seconds"], row["state_bytes"]) == (1.25e-4, 1056.0)


def test_disturbed_seconds_are_marked(suite):
    trials = suite()
    trials.loc[(trials.label == "small as tau=0.1") & (trials.seed == 1), "seconds_method"] = 63.4
    comparison = compare(trials)
    text = " ".join(render(comparison, "text").split())
    assert "0.25× 1.00×†" in text
    assert (
        "† digits, small as tau=0.1: its time relative to full size ranges from 1.00 to 6.34"
        in (text)
    )
    assert text.count("†") == 2
    shown = shown_cells(render(comparison, "md"), "small as")
    assert (shown["time"], shown["time range"], shown["seconds"]) == ("1.00×†", "1.00–6.34×", "10")
    assert r"$\times$$\dagger$" in render(comparison, "tex")
    assert "†" not in render(compare(suite()), "md")


def test_memory_is_called_what_it_is(suite):
    text = render(compare(suite()), "md")
    assert shown_cells(text, "full")["process MB"] == "1"
    assert "memory MB" not in text
    assert "the peak of the worker's whole process, including libraries and data cached" in text
    assert "whole process" not in render(compare(suite()), "text")  # it has no such column
    unknown = render(compare(suite().assign(peak_memory_bytes=None)), "md")
    assert "process" not in unknown


def test_comparisons_of_one_task_have_sections_of_their_own(comparison_named):
    both = compare(pd.concat([comparison_named("long"), comparison_named("short")]))
    lines = render(both, "text").splitlines()
    assert "digits, long: accuracy in %, higher is better" in lines
    assert "digits, short: accuracy in %, higher is better" in lines


def test_html_comes_in_two_tables_that_fit_a_page(suite):
    comparison = compare(suite().assign(state_bytes=1056, step_latency_seconds=1.25e-4))
    results, costs = (html_table(comparison, columns) for columns in (COLUMNS, COSTS))
    heads = [re.findall("<th>(.*?)</th>", table) for table in (results, costs)]
    assert heads[0] == list(COLUMNS)
    assert heads[1][:2] == ["row", "states"]
    whole = re.findall("<th>(.*?)</th>", html_table(comparison))
    assert [*heads[0], *heads[1][2:]] == whole
    assert max(map(len, heads)) <= 10
    assert "accuracy" in results
    assert "accuracy" not in costs


def test_mixed_rows_are_starred_and_explained(suite):
    trials = suite()
    trials.loc[0, "git_commit"] = "other"
    text = render(compare(trials), "text")
    assert "  full *" in text
    assert "* digits, full: its trials mix commit." in text
