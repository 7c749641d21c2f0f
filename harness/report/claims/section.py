"""The claims that a suite decides, as a section of its page."""

from __future__ import annotations

import html
from collections.abc import Sequence

from harness.report.claims.judge import Judged
from harness.report.claims.lines import NOTES, partial, said, wanted
from harness.report.claims.spec import Claims
from harness.report.tables import html_list

HEAD = ("verdict", "claim", "what our records say", "source")


def claims_html(judged: Sequence[Judged], claims: Claims) -> str:
    """A table with one line per verdict and notes under it, as escaped HTML."""
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    body = "\n".join(_line(one) for one in judged)
    used = dict.fromkeys(f.tolerance for one in judged for f in one.findings if f.tolerance)
    reasons = [f"{name}, {claims.tolerances[name].text}: {claims.tolerances[name].why}"
               for name in used]  # fmt: skip
    left_out = list(dict.fromkeys(partial(one) for one in judged if one.partial_run))
    return (
        f'<div class="scroll"><table class="plain claims"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>\n"
        + html_list([*left_out, *NOTES, *reasons], "notes")
    )


def _line(one: Judged) -> str:
    claim, test = one.claim, one.test
    analogue = " (analogue)" if test is not None and test.analogue else ""
    numbers = _numbers(one)
    if test is not None and test.leaves_out:
        numbers.append(f"Not tested: {test.leaves_out}.")
    if claim.note:
        numbers.append(f"Note: {claim.note}.")
    texts = (
        [one.verdict + analogue],
        [claim.id, claim.statement],
        numbers,
        [f"confidence {claim.confidence}", claim.source],
    )
    cells = ("<br>".join(html.escape(line) for line in lines) for lines in texts)
    kind = one.verdict.replace(" ", "_")
    return f'<tr class="{kind}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _numbers(one: Judged) -> list[str]:
    """The outcome of each part; the test's reason and common reasons come first."""
    once = [*([one.reason] if one.reason else []), *one.shared_reasons]
    parts = [
        f"{f.what}: {wanted(f) if one.reason or f.reason in once else said(f)}"
        for f in one.findings
    ]
    return [*once, *parts]
