"""The rank rules of an in_training arm: the size that an event truncates to. `RULES` lists them.

A rule is a function `(arm, systems, event) -> ranks`, or a `RankRule` if it does more. Once
registered, your own can be the `rule` of an in_training arm:

    def halve(arm, systems, event):
        return [max(1, len(system.hsv) // 2) for system in systems]

    register("halve", halve)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.tools.inputs import shown

from .given import Boundary, Event

Ranks = Callable[[Any, Sequence[Any], Event], list[Any]]


class RankRule:
    """A rule with all its hooks; `RULES` holds one instance of each."""

    takes_final = False  # whether it uses the arm's `final`
    takes_tau = False  # whether it uses the arm's `tau`, which truncations then record
    takes_max_loss = False  # whether it needs the arm's `max_loss`, and so held-out examples

    def __init__(self, ranks: Ranks | None = None):
        self._ranks = ranks  # None in a subclass, which defines `ranks`

    def ranks(self, arm: Any, systems: Sequence[Any], event: Event) -> list[Any]:
        """For each block the order to truncate to, from its `harness.reduction.Decomposition`; for
        a stack of systems one order each, or one for all."""
        assert self._ranks is not None  # `rule_of` refuses a class without ranks
        return self._ranks(arm, systems, event)

    def counts_events(self, arm: Any) -> bool:
        """Whether the ranks depend on the event's index and count. If not, trials of two arms can
        fork at the first event that differs."""
        return True

    def before_event(self, arm: Any, here: Boundary) -> bool:
        """As `Arm.before_event`."""
        return True

    def before_truncation(self, arm: Any, here: Boundary) -> None:
        """As `Arm.before_truncation`."""


class Energy(RankRule):
    """The energy rank of `tau`, the fraction of Hankel energy discarded at each event."""

    takes_tau = True

    def ranks(self, arm: Any, systems: Sequence[Any], event: Event) -> list[Any]:
        return [system.energy_rank(arm.tau) for system in systems]

    def counts_events(self, arm: Any) -> bool:
        return False


class Fixed(RankRule):
    """`fraction` of the present states is removed each time, or equal steps lead to `final`."""

    takes_final = True

    def ranks(self, arm: Any, systems: Sequence[Any], event: Event) -> list[Any]:
        from harness.models.orders import each

        now = [system.order for system in systems]
        if arm.final is None:
            return [each(order, lambda n: max(1, int(n * (1 - arm.fraction)))) for order in now]
        left = event.of - event.index
        return [each(order, lambda n: min(n, round(n - (n - arm.final) / left))) for order in now]

    def counts_events(self, arm: Any) -> bool:
        return arm.final is not None


class Pragmatic(Fixed):
    """As `fixed`, until a truncation has cost more than `tolerance` by the next event: then it
    rolls back to the model before that truncation, and no event follows."""

    takes_final = False

    def before_event(self, arm: Any, here: Boundary) -> bool:
        value = here.measure()
        if here.kept is None or here.sign * value >= here.sign * here.kept - arm.tolerance:
            return True
        here.end_events()
        here.restore()
        return False

    def before_truncation(self, arm: Any, here: Boundary) -> None:
        here.keep()


class Loss(RankRule):
    """The smallest sizes at which held-out training examples lose at most `max_loss` by the event.

    They are drawn by seed and step, so two arms find the same sizes at the same event.
    """

    takes_max_loss = True

    def ranks(self, arm: Any, systems: Sequence[Any], event: Event) -> list[Any]:
        assert event.within is not None
        return event.within(arm.max_loss)

    def counts_events(self, arm: Any) -> bool:
        return False


RULES: dict[str, RankRule] = {
    "energy": Energy(),
    "fixed": Fixed(),
    "pragmatic": Pragmatic(),
    "loss": Loss(),
}


def register(name: str, rule: Ranks | RankRule | type[RankRule], again: bool = False) -> None:
    """Register a rule under a name; with `again` it replaces one of that name.

    Raises:
        ValueError: the name is taken, or `rule` is not a rule.
    """
    made = rule_of(name, rule)
    if name in RULES and not again:
        raise ValueError(f"rank rule {name} is there already")
    RULES[name] = made


def rule_of(name: str, rule: Any) -> RankRule:
    """The rule that a function, a class or an instance stands for.

    Raises:
        ValueError: it is not a rule, or defines no ranks.
    """
    made = rule() if isinstance(rule, type) and issubclass(rule, RankRule) else rule
    if not isinstance(made, RankRule):
        if not callable(made):
            raise ValueError(f"rank rule {name}: {shown(rule)} is neither a function nor a class")
        return RankRule(made)
    if type(made) is not RankRule and type(made).ranks is RankRule.ranks:
        raise ValueError(f"rank rule {name} defines no `ranks(self, arm, systems, event)`")
    return made
