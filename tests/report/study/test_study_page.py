import csv
import re
from html.parser import HTMLParser

import pytest

from harness.records.suite_records import SuiteRecords
from harness.report.study.answer import finalists, recommend, summarise
from harness.report.study.study_page import write_study
from harness.report.study.study_sentences import answer_table, notes, says
from tests.report.study.study_cases import (
    a_record,
    compared,
    confirmation,
    over_training,
    searched,
    ways,
)

SETTINGS = {"paper": (0.0, 0.1, 4, 0.05), "c2": (0.2, 0.4, 3, 0.06), "c5": (0.3, 0.5, 5, 0.1)}
ORDER = [
    "The answer", "On fresh seeds", "Metric against cost", "Start and tau", "Which knob matters",
    "Over time", "Every candidate", "The study", "Machine and versions", "Reproduce",
    "Optuna's dashboard",
]  # fmt: skip


class Tags(HTMLParser):
    """Whether every tag was closed, and the texts of cells."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def answered(goal="constrained", margin=0.05, **settings):
    settings = settings or SETTINGS
    trials = confirmation(ways(settings))
    labels = [label for label in settings if not label.startswith("window")]
    found = recommend(trials, goal, margin if goal == "constrained" else None, labels)
    record = a_record(goal, "done", [2, 5], found)
    record["study"]["margin"] = found["margin"]
    return record, trials


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    record, trials = answered()
    write_study(
        SuiteRecords(folder, "study"),
        record,
        searched(12),
        compared(trials),
        trials,
        *over_training(trials),
    )
    return folder


def test_every_file_is_there_and_nothing_else(written):
    files = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    names = ("pareto", "map", "importance", "over_time")
    figures = {f"figures/{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert files == figures | {"answer.md", "candidates.csv", "index.html"}


def test_the_page_stands_alone_in_its_order_with_every_tag_closed(written):
    page = (written / "index.html").read_text()
    assert not re.search(r"https?:|<(script|link|iframe)|@import|url\(", page)
    assert page.count('src="data:image/svg+xml;base64,') == 4
    assert [title.replace("&#x27;", "'") for title in re.findall("<h2>(.*?)</h2>", page)] == ORDER
    assert Tags(page).open == []
    for expected in (
        "timing.digits: when to truncate", "harness tune timing.digits", "2.13.0", "a cpu",
        "optuna-dashboard sqlite:///STORE/optuna.db", "space.tau.log", "Recommended: ",
        "out of memory", "100, 101, 102, 103, 104", "4 × tau 0.05, 0 to 10 %",
    ):  # fmt: skip
        assert expected in page, expected


def test_a_stopped_candidate_says_so_and_why(written):
    cells = Tags((written / "index.html").read_text()).cells
    stopped = sum(summarise(searched(12)).state == "stopped")
    assert stopped > 0
    assert cells.count("stopped: not a result") == stopped
    assert cells.count("first seeds lose more than the margin") == stopped


def test_the_csv_has_one_line_per_candidate_and_seed(written):
    with open(written / "candidates.csv") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(searched(12))
    assert {line["state"] for line in lines} == {"complete", "stopped", "failed"}
    assert list(lines[0]) == list(searched(12).columns)


def test_the_answer_in_markdown_has_rows_of_equal_width(written):
    text = (written / "answer.md").read_text()
    assert text.startswith("**timing.digits**\n\n- Recommended: ")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 5
    assert len({line.count("|") for line in lines}) == 1


def test_a_study_that_has_just_begun_has_a_page(tmp_path):
    write_study(SuiteRecords(tmp_path, "study"), a_record(), searched(3).iloc[:0])
    page = (tmp_path / "index.html").read_text()
    assert "The search is still running, so nothing is recommended yet." in page
    assert "0 complete candidates are too few; 8 are needed" in page.lower()
    assert "No candidate has run yet." in page
    assert not (tmp_path / "figures" / "over_time.png").exists()
    assert "Nothing has been confirmed yet." in page


def test_a_search_without_confirmation_names_its_finalists(tmp_path):
    table = searched(6, higher=False)
    chosen = finalists(summarise(table), "pareto", None, 2)
    record = a_record("pareto", "confirming", chosen, minimise_state_dim=True)
    write_study(SuiteRecords(tmp_path, "study"), record, table)
    text = (tmp_path / "answer.md").read_text()
    assert f"Finalists so far: {', '.join(f'c{n}' for n in chosen)}." in text
    assert "and state dimension" in (tmp_path / "index.html").read_text()


def test_texts_from_records_are_escaped(tmp_path):
    table = searched(3).assign(state="stopped", why="<b>weak & late</b>")
    record = a_record(description="<i>when?</i>")
    write_study(SuiteRecords(tmp_path, "study"), record | {"command": "harness tune '<u>'"}, table)
    page = (tmp_path / "index.html").read_text()
    assert not re.search(r"<(b|i|u)>", page)
    assert "&lt;b&gt;weak &amp; late" in page


# Sentences


def test_the_recommendation_says_what_it_loses_costs_and_how_surely():
    record, trials = answered()
    first, how, *_ = says(record, summarise(searched(4)), trials)
    best = record["recommendation"]["recommended"]
    row = next(row for row in record["recommendation"]["rows"] if row["label"] == best)
    assert first.startswith(f"Recommended: {best} (")
    assert f"{abs(100 * row['difference']):.1f} points of accuracy worse than full size" in first
    assert f"at {row['cost']:.2f} times its training FLOPs" in first
    assert f"it loses at most {-100 * row['bound']:.2f} points" in first
    assert "within the margin of 5 points" in first
    assert "cheapest of the 3 (of 3)" in how
    assert "It stays so when the bound allows for 3 rows" in how


def test_nothing_confirmed_is_said_with_the_seeds_that_would_decide():
    record, trials = answered(margin=0.0145, c2=(0.2, 0.4, 3, 0.06))
    row = record["recommendation"]["rows"][0]
    assert row["bound"] < -0.0145 < row["difference"]
    answer = says(record, summarise(searched(4)), trials)[0]
    assert answer.startswith("Nothing is recommended: none of 1 rows is surely within 1.45 points")
    assert f"{row['seeds_needed']} seeds would decide; there are 5" in answer
    hopeless, trials = answered(margin=0.001)
    assert "would decide" not in says(hopeless, summarise(searched(4)), trials)[0]


def test_verdicts_tell_surely_beyond_from_not_sure():
    record, trials = answered(margin=0.0145, c2=(0.2, 0.4, 3, 0.06), c9=(0.0, 0.1, 8, 0.3))
    lines = {line["row"]: line["within the margin"] for line in answer_table(record, trials)}
    assert lines == {"c2": "not sure", "c9": "no"}
    record, trials = answered("pareto")
    assert {line["on the front"] for line in answer_table(record, trials)} <= {"yes", "no"}


def test_the_windows_claim_is_answered_only_where_the_window_alone_differs():
    twin = {"c5": (0.3, 0.5, 5, 0.1), "window c5": (0.0, 0.1, 5, 0.1)}
    record, trials = answered(paper=(0.0, 0.1, 4, 0.05), **twin)
    windows = [line for line in says(record, summarise(searched(4)), trials) if "window:" in line]
    assert len(windows) == 2
    assert "They differ only in the window, and the interval excludes 0: it does" in windows[0]
    assert "they also differ in count and tau, so this does not test the window" in windows[1]


def test_the_number_of_tests_is_noted():
    record, _ = answered()
    assert any("With 3 rows" in line and "up to 15 %" in line for line in notes(record))
    one, _ = answered(c2=(0.2, 0.4, 3, 0.06))
    assert not any("Bonferroni" in line for line in notes(one))


def test_how_candidates_ended_and_what_was_saved_is_said():
    record, trials = answered()
    search, spent = says(record, summarise(searched(20)), trials)[-2:]
    assert "tried 21 settings on up to 3 seeds" in search
    assert "were stopped after their first seeds, 1 failed" in search
    assert "0.62 times" in spent
