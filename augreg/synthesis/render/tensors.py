"""Rendering by tensor operations, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from augreg.geometry.velocity import runge_kutta
from augreg.synthesis.render import tensor_splines
from augreg.synthesis.render.arithmetic import ACCEPTED, ITERATIONS, Arithmetic
from augreg.synthesis.render.frame import ControlFrame, Tensor, transformed
from augreg.synthesis.render.tensor_splines import SplineField, bases, displacement, flat, per_axis, unflat


@dataclass(frozen=True)
class TensorArithmetic(Arithmetic):
    """Tensor operations."""

    def pull(self, coefficients: Tensor, frame: ControlFrame, affine: Tensor) -> tuple[Tensor, Tensor]:
        """All points at once: each step solves J dx = z - f(x), z = A y + t, the first one from x = z - u(z).

        Points that are accepted leave; later steps are those of the points that are left. A card waits once a step, to count
        them.
        """
        field, pixels = SplineField(coefficients, frame), frame.targets(affine)
        z, which = flat(pixels)
        found, residuals = torch.empty_like(z), torch.empty_like(z[0])
        # of the points that are left: their place, the best so far, and the step from there
        place, x, step = torch.arange(len(which), device=z.device), z, -field.at(z, which, slopes=False)[0]
        best = torch.full_like(residuals, torch.inf)
        for _ in range(ITERATIONS):
            trial = x + step
            u, J = field.at(trial, which)
            residual = z - trial - u
            error = residual.norm(dim=0)
            better = error < best
            x = torch.where(better, trial, x)
            step = torch.where(better, _solve(J, residual), step / 2)
            best = torch.where(better, error, best)
            accepted = best <= ACCEPTED
            found[:, place], residuals[place] = torch.where(accepted, x + step, x), best
            left = (~accepted).nonzero()[:, 0]
            if not len(left):
                break
            z, x, step = z[:, left], x[:, left], step[:, left]
            place, which, best = place[left], which[left], best[left]
        return unflat(found, pixels), residuals.reshape(pixels.shape[:2])

    def spread(self, coefficients: Tensor, frame: ControlFrame, affine: Tensor) -> Tensor:
        """See `Arithmetic.spread`."""
        u = per_axis(coefficients.movedim(-1, 0).flatten(0, 1), bases(frame, coefficients.device, coefficients.dtype))
        u = u.reshape(coefficients.shape[-1], len(coefficients), -1).movedim(0, -1)
        return transformed(affine, u + frame.pixels_like(u))

    def move(self, coefficients: Tensor, frame: ControlFrame, points: Tensor, affine: Tensor | None = None) -> Tensor:
        """See `Arithmetic.move`."""
        moved = points + displacement(coefficients, frame, points)
        return moved if affine is None else transformed(affine, moved)

    def ends(self, frame: ControlFrame, points: Tensor) -> tuple[Tensor, Tensor]:
        """See `Arithmetic.ends`."""
        return frame.ends(points)

    def exponential(self, coefficients: Tensor, frame: ControlFrame, points: Tensor, sign: float, steps: int) -> Tensor:
        """See `Arithmetic.exponential`."""
        return runge_kutta(lambda x: displacement(coefficients, frame, x), points, sign, steps)

    def mosaic(self, weights: Tensor, mixing: Sequence[Tensor], textures: Tensor) -> tuple[Tensor, Tensor]:
        """See `Arithmetic.mosaic`."""
        fields = per_axis(weights.flatten(0, 1), mixing).reshape(*weights.shape[:2], -1)
        # pair by pair: the weights of a whole batch would be its largest array by far
        mixed = torch.stack([(torch.softmax(g, dim=0) * textures).sum(dim=0) for g in fields])
        return mixed, fields.argmax(dim=1).int()

    def prefilter(self, values: Tensor) -> Tensor:
        """See `Arithmetic.prefilter`."""
        return tensor_splines.prefilter(values)

    def interpolate(self, coefficients: Tensor, points: Tensor) -> Tensor:
        """See `Arithmetic.interpolate`."""
        return tensor_splines.interpolate(coefficients, points)

    def nearest(self, labels: Tensor, points: Tensor) -> Tensor:
        """See `Arithmetic.nearest`."""
        place = torch.zeros(points.shape[:-1], dtype=torch.int64, device=points.device)
        for a, n in enumerate(labels.shape[1:]):
            place = place * n + _reflected(points[..., a].round().long(), n)
        return labels.flatten(1).repeat_interleave(len(points) // len(labels), dim=0).gather(1, place)


def _solve(J: list[Tensor], r: Tensor) -> Tensor:
    """(I + J)^-1 r in closed form, columns (D, P) and (D, P); near a singular matrix a small multiple of r's direction."""
    if len(r) == 2:
        a, b, c, d = 1 + J[0][0], J[1][0], J[0][1], 1 + J[1][1]
        adjugate = torch.stack([d * r[0] - b * r[1], a * r[1] - c * r[0]])
        det = a * d - b * c
    else:
        columns = (torch.stack(J) + torch.eye(3, dtype=r.dtype, device=r.device)[..., None]).unbind()
        minors = [torch.linalg.cross(columns[(k + 1) % 3], columns[(k + 2) % 3], dim=0) for k in range(3)]
        det = (columns[0] * minors[0]).sum(dim=0)
        adjugate = torch.stack([(minor * r).sum(dim=0) for minor in minors])
    return adjugate / torch.where(det.abs() < 1e-3, 1, det)


def _reflected(index: Tensor, n: int) -> Tensor:
    """Indices mirrored at the outer voxels of an axis of length n."""
    return (n - 1) - (torch.remainder(index, max(2 * (n - 1), 1)) - (n - 1)).abs()
