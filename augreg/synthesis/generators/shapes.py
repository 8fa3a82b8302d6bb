"""Fields that an appearance model knows: from its mean shape to random shapes of it, for images other than the model's own.

    u(x) = psi_b(x) - x,      b ~ N(0, amplitude^2 I), coefficients beyond 3 drawn again

psi_b is carried over to the images' control grid by the cubic B-spline through its values there: exact for the model's own grid
and displacements, an approximation of exponentials. Pairs are exact either way: their truth is the spline.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.splines import through
from augreg.sam.model import AppearanceModel
from augreg.synthesis.generators.fields import bounded_normal


@dataclass(frozen=True, eq=False)
class ModelField:
    """Shapes of an appearance model, as displacements of its mean shape.

    Parameters
    ----------
    model : the appearance model; images are to lie in its space
    amplitude : factor on the shape modes' standard deviations
    """

    model: AppearanceModel = field(repr=False)
    amplitude: float = 1.0

    def draw(self, rng: np.random.Generator, control: Grid, template: Grid) -> FloatArray:
        """Coefficients (*control.shape, D) mm.

        Raises
        ------
        ValueError : for images of another dimension than the model's.
        """
        if control.ndim != self.model.ndim:
            raise ValueError(f"ModelField: expected images in {self.model.ndim}-D, as the model, got {control.ndim}-D")
        psi = self.model.transform(self.amplitude * bounded_normal(rng, (self.model.shape.rank,)))
        nodes = control.points()
        return through((psi(nodes) - nodes)[None], control)[0]
