"""Pathfinder's contours: chains of paddles placed one by one, compiled by numba.

The rules are those of the challenge's authors (drewlinsley/pathfinder, snakes2.py). Two target
chains of `contour_length` paddles start at tails that lie `seed_distance` apart, the first near
the middle, and grow in turns; then come shorter distractor chains. A paddle is a line of
`paddle_length`. The next one points away from a pivot, `margin` beyond the last head, and has its
own head at a distance of `margin` + `paddle_length` from it, in a pixel's middle. A turn by d
weighs cos^2(continuity d), nothing beyond continuity d = 90 degrees, and nothing where the head
would be too near to another paddle. A paddle that is too near elsewhere is drawn again twice, then
the chain fails: a target pair is started afresh, a distractor is tried four more times and then
left out. A marker lies on the first tail of one target, and one on the last head of the same
target (label 1) or of the other (label 0).

What differs: "too near" is a distance between lines, not an overlap of dilated masks, and holds
between any two paddles but neighbours in a chain; the original exempts those drawn last, so that
its contours may cross. Only heads and first tails are in the middle of pixels, the rest is not
rounded.

Lengths are in pixels, points are (y, x), pixel (i, j) covers [i, i + 1) x [j, j + 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.tasks.pathfinder.contour_rules import Layouts, Rules
from harness.tools.compiling import compiled

GENERATOR_VERSION = 1  # part of the cache's name and of every seed: raise it when the draws change

PADDING = 1.0  # pixels at the border that stay free of paddles and their margins
PADDLE_RETRIALS = 2
DISTRACTOR_RETRIALS = 4
QUICK_TURNS = 6  # draws before all of TURNS directions are weighed
TURNS = 24
SEED_DRAWS = 200  # places tried for a distractor's first paddle before there is none free

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)


def layouts(rules: Rules, key: int, first: int, count: int) -> Layouts:
    """Layouts first, first + 1, ... of the stream `key` (0 <= key < 2^64), each a pure function
    of (rules, key, its index). Lets go of the interpreter's lock."""
    most = 2 * rules.contour_length + rules.distractors * rules.distractor_length
    made = Layouts(
        paddles=np.zeros((count, most, 4)),
        chains=np.full((count, most), -1),
        counts=np.zeros(count, dtype=np.int64),
        markers=np.zeros((count, 2, 2)),
        labels=np.zeros(count, dtype=np.int64),
        margins=np.zeros(count, dtype=np.int64),
    )
    _place_all(rules, np.uint64(key), first, made)
    return made


@compiled
def _place_all(rules: Any, key: Any, first: int, made: Any) -> None:
    state = np.empty(1, np.uint64)
    for k in range(len(made.counts)):
        state[0] = _mix(_mix(key) + np.uint64(first + k))
        paddles, chains = made.paddles[k], made.chains[k]
        made.labels[k] = _integer(state, 2)
        margin = rules.margin_low + _integer(state, rules.margin_high - rules.margin_low + 1)
        made.margins[k] = margin
        while not _place_targets(rules, margin, state, paddles, chains):
            pass
        count = 2 * rules.contour_length
        for chain in range(2, 2 + rules.distractors):
            for _ in range(DISTRACTOR_RETRIALS + 1):
                if _place_distractor(rules, margin, state, paddles, chains, count, chain):
                    count += rules.distractor_length
                    break
        made.counts[k] = count
        # The first target's paddles lie in rows 0..length - 1, the second's in the next ones.
        origin = _integer(state, 2)
        terminal = origin if made.labels[k] == 1 else 1 - origin
        made.markers[k, 0] = paddles[origin * rules.contour_length, :2]
        made.markers[k, 1] = paddles[(terminal + 1) * rules.contour_length - 1, 2:]


@compiled
def _place_targets(rules: Any, margin: int, state: Any, paddles: Any, chains: Any) -> bool:
    """Both targets, in rows 0..2 contour_length - 1; False where one got stuck."""
    length = rules.contour_length
    grown = np.zeros((2 * length, 4))  # in the order of growth: 0, 1, 0, 1, ...
    low, high = 2 * rules.seed_distance, rules.resolution - 2 * rules.seed_distance
    grown[0, 0] = _centre(low + (high - low) * _uniform(state))
    grown[0, 1] = _centre(low + (high - low) * _uniform(state))
    _point(rules, grown[0], _angle(state))
    if min(grown[0, 2], grown[0, 3]) < low or max(grown[0, 2], grown[0, 3]) > high:
        return False
    around = _angle(state)
    grown[1, 0] = _centre(grown[0, 0] + rules.seed_distance * np.sin(around))
    grown[1, 1] = _centre(grown[0, 1] + rules.seed_distance * np.cos(around))
    _point(rules, grown[1], _angle(state))
    if not _free(rules, margin, grown, 1, -1, grown[1]):
        return False
    for row in range(2, 2 * length):
        if not _extend(rules, margin, state, grown, row, row - 2):
            return False
    for row in range(2 * length):
        paddles[(row % 2) * length + row // 2] = grown[row]
        chains[(row % 2) * length + row // 2] = row % 2
    return True


@compiled
def _place_distractor(
    rules: Any, margin: int, state: Any, paddles: Any, chains: Any, count: int, chain: int
) -> bool:
    """A chain in rows count..count + distractor_length - 1; False where it does not fit."""
    for _ in range(SEED_DRAWS):
        paddles[count, 0] = _centre(rules.resolution * _uniform(state))
        paddles[count, 1] = _centre(rules.resolution * _uniform(state))
        _point(rules, paddles[count], _angle(state))
        if _free(rules, margin, paddles, count, -1, paddles[count]):
            break
    else:
        return False
    for row in range(count + 1, count + rules.distractor_length):
        if not _extend(rules, margin, state, paddles, row, row - 1):
            return False
    chains[count : count + rules.distractor_length] = chain
    return True


@compiled
def _extend(rules: Any, margin: int, state: Any, paddles: Any, row: int, before: int) -> bool:
    """Write to `row` a paddle that follows the one in row `before`; False where none fits."""
    tail_y, tail_x, head_y, head_x = paddles[before]
    heading = np.arctan2(head_y - tail_y, head_x - tail_x)
    pivot = head_y + margin * np.sin(heading), head_x + margin * np.cos(heading)
    for _ in range(PADDLE_RETRIALS + 1):
        if not _turn(rules, margin, state, paddles, row, before, pivot, heading):
            return False
        if _free(rules, margin, paddles, row, before, paddles[row]):
            return True
    return False


@compiled
def _turn(
    rules: Any,
    margin: int,
    state: Any,
    paddles: Any,
    row: int,
    before: int,
    pivot: Any,
    heading: float,
) -> bool:
    """Write to `row` a paddle whose head is free, its turn drawn by its weight; False where there
    is none.

    The quick way, drawing until a head is free, is right as long as it succeeds. Where it does
    not, all directions are weighed.
    """
    head = np.empty(4)  # a line of no length
    for _ in range(QUICK_TURNS):
        turn = np.pi * (_uniform(state) - 0.5)
        if _uniform(state) < np.cos(turn) ** 2:
            _aim(rules, margin, pivot, heading + turn / rules.continuity, head)
            if _free(rules, margin, paddles, row, before, head):
                _lead_to(rules, pivot, head, paddles[row])
                return True
    heads, weights = np.empty((TURNS, 4)), np.empty(TURNS)
    total = 0.0
    for k in range(TURNS):
        turn = np.pi * ((k + _uniform(state)) / TURNS - 0.5)
        _aim(rules, margin, pivot, heading + turn / rules.continuity, heads[k])
        if _free(rules, margin, paddles, row, before, heads[k]):
            total += np.cos(turn) ** 2
        weights[k] = total  # cumulative
    if total == 0.0:
        return False
    chosen = min(int(np.searchsorted(weights, total * _uniform(state), "right")), TURNS - 1)
    _lead_to(rules, pivot, heads[chosen], paddles[row])
    return True


@compiled
def _aim(rules: Any, margin: int, pivot: Any, angle: float, head: Any) -> None:
    """Set `head`, a line of no length, to the pixel in this direction from the pivot."""
    reach = margin + rules.paddle_length
    head[0] = head[2] = _centre(pivot[0] + reach * np.sin(angle))
    head[1] = head[3] = _centre(pivot[1] + reach * np.cos(angle))


@compiled
def _lead_to(rules: Any, pivot: Any, head: Any, paddle: Any) -> None:
    """Set a paddle by its head and the direction from the pivot to it."""
    angle = np.arctan2(head[0] - pivot[0], head[1] - pivot[1])
    paddle[0] = head[0] - rules.paddle_length * np.sin(angle)
    paddle[1] = head[1] - rules.paddle_length * np.cos(angle)
    paddle[2:] = head[2:]


@compiled
def _centre(value: float) -> float:
    """The middle of the pixel that a coordinate lies in."""
    return np.floor(value) + 0.5


@compiled
def _point(rules: Any, paddle: Any, angle: float) -> None:
    """Set the head of a paddle whose tail is set."""
    paddle[2] = paddle[0] + rules.paddle_length * np.sin(angle)
    paddle[3] = paddle[1] + rules.paddle_length * np.cos(angle)


@compiled
def _free(rules: Any, margin: int, paddles: Any, count: int, before: int, line: Any) -> bool:
    """Whether `line` (tail, head) keeps its distance to the border and to paddles 0..count - 1,
    except to its predecessor, row `before` (-1: none)."""
    border = PADDING + margin + 0.5 * rules.thickness - rules.slack
    for k in range(4):
        if line[k] < border or line[k] > rules.resolution - border:
            return False
    clearance = 2 * margin + rules.thickness - rules.slack
    # Lines whose middles are this far apart need no closer look.
    far = 4 * (rules.paddle_length + clearance) ** 2
    twice_y, twice_x = line[0] + line[2], line[1] + line[3]
    for row in range(count):
        other = paddles[row]
        apart_y, apart_x = other[0] + other[2] - twice_y, other[1] + other[3] - twice_x
        if row == before or apart_y * apart_y + apart_x * apart_x > far:
            continue
        if _gap(line, other) < clearance * clearance:
            return False
    return True


@compiled
def _gap(a: Any, b: Any) -> float:
    """Squared distance of two lines, by their ends.

    For lines that cross this is at most (half the length of the shorter)^2 and not 0. That is
    still below any clearance that the rules have, so they are seen as too near.
    """
    return min(
        min(_from_line(a[0], a[1], b), _from_line(a[2], a[3], b)),
        min(_from_line(b[0], b[1], a), _from_line(b[2], b[3], a)),
    )


@compiled
def _from_line(y: float, x: float, line: Any) -> float:
    """Squared distance of a point from a line (tail y, x, head y, x), of no length perhaps."""
    dy, dx = line[2] - line[0], line[3] - line[1]
    y, x = y - line[0], x - line[1]
    square = dy * dy + dx * dx
    along = 0.0 if square == 0.0 else min(max((y * dy + x * dx) / square, 0.0), 1.0)
    return (y - along * dy) ** 2 + (x - along * dx) ** 2


@compiled
def _mix(value: Any) -> Any:
    """SplitMix64's finaliser, a bijection of 64 bits."""
    value = (value ^ (value >> _S30)) * _MIX_1
    value = (value ^ (value >> _S27)) * _MIX_2
    return value ^ (value >> _S31)


@compiled
def _uniform(state: Any) -> float:
    """The next number of 53 bits in [0, 1)."""
    state[0] += _GAMMA
    return np.float64(_mix(state[0]) >> _S11) * 2.0**-53


@compiled
def _angle(state: Any) -> float:
    return 2 * np.pi * _uniform(state)


@compiled
def _integer(state: Any, count: int) -> int:
    """The next integer in 0..count - 1."""
    return int(count * _uniform(state))
