"""Cutting sequences into pieces and chunks, and launching the Triton kernels on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import torch

SHORTEST_CHUNK, LONGEST_CHUNK = 16, 128
WARP, WIDEST_TILE = 32, 64  # threads; states a program, one a thread
# A piece is what is projected and scanned at once: it bounds the memory of what is not kept.
PIECE_ROWS = 2**16


@dataclass(frozen=True)
class Piece:
    """A contiguous range of rows: whole sequences, or consecutive chunks of a single one."""

    rows: slice  # of the (batch x length) rows
    chunks: slice  # of the rows of a boundary table
    sequences: int
    steps: int  # of each sequence
    opens: bool  # whether it holds the first step of its sequences
    closes: bool  # and the last


def chunk_steps(length: int) -> int:
    """T: the power of two nearest above the square root, where T steps in each chunk and then
    length / T chunks, the parts that cannot run side by side, are fewest."""
    root = 2 ** math.ceil(math.log2(max(1.0, math.sqrt(length))))
    return min(max(root, SHORTEST_CHUNK), LONGEST_CHUNK)


def cut(batch: int, length: int, T: int) -> list[Piece]:
    """Pieces of at most `PIECE_ROWS` rows (a multiple of T), in the order of time."""
    chunks = -(-length // T)
    pieces = []
    group = max(1, PIECE_ROWS // length)
    for b in range(0, batch, group):
        sequences = min(group, batch - b)
        for t in range(0, length, PIECE_ROWS):
            steps = min(PIECE_ROWS, length - t)
            row, chunk = b * length + t, b * chunks + t // T
            pieces.append(
                Piece(
                    rows=slice(row, row + sequences * steps),
                    chunks=slice(chunk, chunk + sequences * -(-steps // T)),
                    sequences=sequences,
                    steps=steps,
                    opens=t == 0,
                    closes=t + steps == length,
                )
            )
    return pieces


class Scan:
    """The scans of one layer over (batch, length), piece after piece.

    Planes are (rows, 2N) in any real type, boundary tables (chunks, 2N) in the type of `like`;
    see `triton_kernels` for both.
    """

    def __init__(
        self, nu: torch.Tensor, theta: torch.Tensor, batch: int, length: int, like: torch.Tensor
    ):
        self.nu, self.theta, self.like = nu, theta, like
        self.N, self.T = len(nu), chunk_steps(length)
        self.block = min(WIDEST_TILE, max(WARP, 2 ** math.ceil(math.log2(self.N))))
        self.tiles = -(-self.N // self.block)
        self.pieces = cut(batch, length, self.T)
        self.state: torch.Tensor  # what a piece hands on to the next of its sequence

    def power(self, k: int) -> torch.Tensor:
        """Lambda^k (2, N) float64, real over imaginary: less would lose k theta's many turns."""
        magnitude = torch.exp(self.nu.double() * -k)
        phase = self.theta.double() * k
        return torch.stack((magnitude * torch.cos(phase), magnitude * torch.sin(phase)))

    def table(self) -> torch.Tensor:
        """An empty boundary table for all pieces."""
        return self.like.new_empty(self.pieces[-1].chunks.stop, 2 * self.N)

    def begin_forward(self) -> None:
        """Make ready for pieces in the order of time."""
        self.lam, self.lam_T = (self.power(k).to(self.like.dtype) for k in (1, self.T))

    def forward(self, piece: Piece, planes: torch.Tensor, starts: torch.Tensor) -> None:
        """From drive to states in place; the state ahead of each chunk into `starts`."""
        self._carried(piece, planes, starts[piece.chunks], fresh=piece.opens, reverse=False)
        self.apply(piece, planes, starts)

    def apply(self, piece: Piece, planes: torch.Tensor, starts: torch.Tensor) -> None:
        """From drive to states in place, from the known state ahead of each chunk."""
        tables = (planes, self.lam, starts[piece.chunks])
        kernels().apply[self._grid(piece)](*tables, *self._sizes(piece), **self._tiling)

    def begin_backward(self) -> None:
        """Make ready for pieces in reverse time."""
        self.begin_forward()
        self.conj, self.conj_T = (torch.stack((p[0], -p[1])) for p in (self.lam, self.lam_T))
        self.sums = self.table()

    def backward(
        self, piece: Piece, planes: torch.Tensor, states: torch.Tensor, starts: torch.Tensor
    ) -> None:
        """From dL/dy through C to dL/dh in place, given h and the h ahead of each chunk."""
        behind = torch.empty_like(starts[piece.chunks])
        self._carried(piece, planes, behind, fresh=piece.closes, reverse=True)
        tables = (planes, self.conj, behind, states, starts[piece.chunks], self.sums[piece.chunks])
        kernels().adjoint[self._grid(piece)](*tables, *self._sizes(piece), **self._tiling)

    def gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        """dL/dnu and dL/dtheta (N,), when all pieces are through: always summed in one order."""
        G_re, G_im = self.sums.sum(0, dtype=torch.float64).view(2, -1)
        re, im = self.power(1)
        d_nu, d_theta = -(G_re * re + G_im * im), G_im * re - G_re * im
        return d_nu.to(self.nu.dtype), d_theta.to(self.theta.dtype)

    def _carried(
        self, piece: Piece, planes: torch.Tensor, table: torch.Tensor, fresh: bool, reverse: bool
    ) -> None:
        """Into `table` the state each chunk starts from, in either direction of time.

        A state goes from piece to piece only out of whole chunks: a part of one is the last of its
        sequence, and in reverse time the first, where there is nothing to carry yet.
        """
        lam, lam_T = (self.conj, self.conj_T) if reverse else (self.lam, self.lam_T)
        before = self.like.new_zeros(piece.sequences, 2 * self.N) if fresh else self.state
        if piece.opens and piece.closes and piece.steps <= self.T:
            table.copy_(before)
            return
        self.state = torch.empty_like(before)
        _, chunks, _ = sizes = self._sizes(piece)
        grid, tiling = self._grid(piece), self._tiling
        kernels().chunk_ends[grid](planes, lam, table, *sizes, REVERSE=reverse, **tiling)
        tiling.pop("T")
        kernels().carry[(grid[0], grid[2])](
            table, lam_T, before, self.state, chunks, self.N, REVERSE=reverse, **tiling
        )

    def _sizes(self, piece: Piece) -> tuple[int, int, int]:
        return piece.steps, -(-piece.steps // self.T), self.N

    def _grid(self, piece: Piece) -> tuple[int, int, int]:
        return piece.sequences, -(-piece.steps // self.T), self.tiles

    @property
    def _tiling(self) -> dict[str, int]:
        # Fused multiply-adds are asked for, since defaults, and so bits, change between versions.
        options = {"num_warps": self.block // WARP, "enable_fp_fusion": True}
        return {"T": self.T, "BLOCK": self.block, **options}


def kernels() -> ModuleType:
    """The kernels, imported when first launched, since importing them needs Triton."""
    from . import triton_kernels

    return triton_kernels
