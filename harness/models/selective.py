"""What stands in for the system that a selective layer has not, by its basis; without torch."""

from __future__ import annotations

from typing import Literal, get_args

Selective = Literal["mean_modes", "second_moment", "mean_lti", "activation", "taylor", "drrqr"]
METHODS: tuple[str, ...] = get_args(Selective)

# By whether states go as they are, or change their basis.
OF_BASIS = {
    "own": tuple(one for one in METHODS if one != "mean_lti"),
    "free": ("mean_lti", "second_moment"),
}


def check_basis(how: str, basis: str, has_heads: bool) -> None:
    """Raise `ValueError` for a method that this basis, or a layer with heads, has no use for."""
    if how not in OF_BASIS[basis]:
        does = "removes states as they are" if basis == "own" else "changes the basis of states"
        raise ValueError(
            f"selective {how} does not go with the model's basis {basis}, in which a truncation "
            f"{does}: choose {' or '.join(OF_BASIS[basis])}, or the other basis"
        )
    if how == "mean_lti" and has_heads:
        raise ValueError(
            "selective mean_lti would keep one state of a layer with heads, whose mean system has "
            "one Hankel singular value whatever its size: choose second_moment"
        )
