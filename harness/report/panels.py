"""How many comparisons a figure shows, one below the other."""

from collections.abc import Sequence

from matplotlib.figure import Figure

MOST_PANELS = 24  # nobody reads more, and an image has at most 65,536 lines


def say_rest(figure: Figure, shown: Sequence[object], there: Sequence[object]) -> None:
    """Say below the figure how many panels there would be, if they are more than it shows."""
    if len(there) > len(shown):
        said = f"the first {len(shown)} of {len(there)} comparisons; the tables have all"
        figure.supxlabel(said, fontsize=8.0)


__all__ = ["MOST_PANELS", "say_rest"]
