"""Costs of profiles that take both signs of NCC for good, against which one sign for the whole image was chosen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.keypoints.pyramid import Raster
from augreg.lp import criteria
from augreg.lp.criteria import Criterion, CriterionName, criterion_called
from augreg.lp.profiles import HERE, Profiles


@dataclass(frozen=True, eq=False)
class _Absolute(criteria._Ncc):
    """1 - |NCC|, of images with one channel."""

    any_contrast = True

    @staticmethod
    def of(fixed: Raster, moving: Raster) -> _Absolute:
        return _Absolute(criteria._Ncc.of(fixed, moving).floor)

    def costs(self, profiles: Profiles) -> FloatArray:
        return 1 - np.abs(1 - super().costs(profiles))

    def tensors(self, profiles: Profiles, step: float, ndim: int) -> tuple[FloatArray, FloatArray]:
        hessian, gradient = super().tensors(profiles, step, ndim)
        return hessian, gradient * self._signs(profiles, ndim)[:, None]

    def _signs(self, profiles: Profiles, ndim: int) -> FloatArray:
        """Of NCC where the profiles stand; the moving ones have a line and a sample more all around."""
        side = profiles.bundle.side + 2
        count, channels, _, wide = profiles.moving.shape
        inner = profiles.moving.reshape(count, channels, *[side] * (ndim - 1), wide)
        inner = inner[(slice(None), slice(None), *[slice(1, -1)] * ndim)]
        still = Profiles(profiles.fixed, np.ascontiguousarray(inner.reshape(profiles.fixed.shape)), profiles.bundle, HERE)
        return np.where(1 - super().costs(still)[:, 0] < 0, -1.0, 1.0)


@dataclass(frozen=True, eq=False)
class _Squared(_Absolute):
    """1 - NCC^2; its polish is that of 1 - |NCC|."""

    @staticmethod
    def of(fixed: Raster, moving: Raster) -> _Squared:
        return _Squared(criteria._Ncc.of(fixed, moving).floor)

    def costs(self, profiles: Profiles) -> FloatArray:
        return 1 - (1 - super().costs(profiles)) ** 2


KINDS: dict[str, type[Criterion]] = {"1 - |ncc|": _Absolute, "1 - ncc^2": _Squared}


@contextmanager
def profiles_of_either_sign(kind: str) -> Iterator[None]:
    """Registrations by ncc take such costs."""

    def called(name: CriterionName) -> type[Criterion]:
        return KINDS[kind] if name == "ncc" else criterion_called(name)

    with patch("augreg.lp.register.criterion_called", called):
        yield
