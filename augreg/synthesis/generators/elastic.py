"""Fields of soft bodies of random stiffness that a probe is pushed into.

What Hu et al. (MICCAI 2018) made with finite elements of 143 patients (an ultrasound probe in the rectum, stiffness of tissues
drawn at random), as one more family of fields: linear instead of nonlinear, on the control grid of the maps instead of a mesh
(`augreg.synthesis.generators.elasticity`). Of every draw

    E of each label            log-uniform over `stiffness`; `air` has a thousandth of the least
    nu of each label           uniform over `poisson`
    site of the probe          any place of a surface: of the structure `probe`, else of the body in air, else of the image's box
    u = depth n at the site    falling to 0 within `radius` of it as 1 - (d / radius)^2, n from the probe into the body
    u = 0                      in the labels `held` and at the frame of the control grid

Beyond the image its outermost labels go on. The site on any surface, for images without a known probe, and the numbers that are
not given are augreg's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Labels
from augreg.geometry.splines import through
from augreg.synthesis.generators.elasticity import ElasticLattice

# of air: it follows what moves
_AIR = 1e-3
# nodes over which a surface is smoothed for its direction
_SOFT = 1.0
# slopes of a smoothed surface, per node, that are rounding
_FLAT = 1e-6
# control cells that a probe covers at least
_LEAST_RADIUS = 1.6


@dataclass(frozen=True, eq=False)
class ElasticField:
    """Bodies of random stiffness, pushed at a place.

    Parameters
    ----------
    labels : what is where, in the space of the images
    depth : least and largest depth of the probe, mm; uniform in between
    radius : least and largest radius of the probe, mm; of at least 1.6 control cells
    stiffness : least and largest Young's modulus, kPa; only ratios matter
    poisson : least and largest Poisson's ratio, in (0, 0.5): nearly incompressible elements would be stiffer than bodies
    probe : label whose surface pushes, such as the rectum
    held : labels that never move, such as bone
    air : labels of no stiffness

    Raises
    ------
    ValueError : for numbers out of their range, or a probe that the labels do not have.
    """

    labels: Labels = field(repr=False)
    depth: tuple[float, float] = (2.0, 8.0)
    radius: tuple[float, float] = (10.0, 20.0)
    stiffness: tuple[float, float] = (1.0, 30.0)
    poisson: tuple[float, float] = (0.3, 0.45)
    probe: int | None = None
    held: tuple[int, ...] = ()
    air: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, low, high in (("stiffness", 0.0, np.inf), ("poisson", 0.0, 0.5), ("radius", 0.0, np.inf)):
            least, most = getattr(self, name)
            if not low < least <= most < high:
                raise ValueError(f"{name}: expected least and largest between {low:g} and {high:g}, got {least} and {most}")
        if self.probe is not None and not (self.labels.values == self.probe).any():
            known = ", ".join(str(label) for label in np.unique(self.labels.values)[:8])
            raise ValueError(f"probe: expected a label of the map, {known}, got {self.probe}")

    def draw(self, rng: np.random.Generator, control: Grid, template: Grid) -> FloatArray:
        """Coefficients (*control.shape, D) mm."""
        D = control.ndim
        numbers = np.unique(self.labels.values)
        E = np.exp(rng.uniform(np.log(self.stiffness[0]), np.log(self.stiffness[1]), len(numbers)))
        E[np.isin(numbers, self.air)] = _AIR * self.stiffness[0]
        nu = rng.uniform(*self.poisson, len(numbers))
        cells = np.searchsorted(numbers, self._labels_at(control, 0.5))
        nodes = self._labels_at(control, 0.0)
        site, direction = self._site(rng, nodes, control, template)
        away = (np.stack(np.meshgrid(*map(np.arange, control.shape), indexing="ij"), axis=-1) - site) * control.spacing
        radius = max(rng.uniform(*self.radius), _LEAST_RADIUS * max(control.spacing))
        share = np.clip(1 - np.square(away).sum(axis=-1) / radius**2, 0, 1)
        known = np.isin(nodes, self.held)
        pushed = self._surface(nodes, control, template)[0] & (share > 0) & ~known
        inner = (slice(3, -3),) * D
        frame = np.ones(control.shape, dtype=bool)
        frame[inner] = False
        pushed &= ~frame
        given = rng.uniform(*self.depth) * np.where(pushed, share, 0)[..., None] * direction
        # the layers of the frame but the innermost are air to the elements
        part = (slice(2, -2),) * D
        between = tuple(slice(2, n - 3) for n in control.shape)
        lattice = ElasticLattice(control.spacing, E[cells][between], nu[cells][between])
        u = np.zeros((*control.shape, D))
        u[part] = lattice.solve((known | pushed | frame)[part], given[part])
        return through((u @ control.axes.T)[None], control)[0]

    def _labels_at(self, control: Grid, beside: float) -> npt.NDArray[np.integer]:
        """The labels at all nodes, or half a cell beside them; beyond the image those of its border."""
        index = np.stack(np.meshgrid(*[np.arange(n) + beside for n in control.shape], indexing="ij"), axis=-1)
        voxels = np.rint(self.labels.grid.indices_at(control.points_at(index))).astype(int)
        voxels = np.clip(voxels, 0, np.asarray(self.labels.grid.shape) - 1)
        return self.labels.values[tuple(np.moveaxis(voxels, -1, 0))]

    def _surface(
        self, nodes: npt.NDArray[np.integer], control: Grid, template: Grid
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Nodes of the body, or of the probe, where the two meet, and all that are the probe's side."""
        inside = template.contains(control.points())
        if self.probe is not None and (nodes == self.probe).any():
            outside = nodes == self.probe
            return outside & scipy.ndimage.binary_dilation(~outside) & inside, outside
        air = np.isin(nodes, self.air)
        outside = air if (air & inside).any() and (~air & inside).any() else ~inside
        return ~outside & scipy.ndimage.binary_dilation(outside) & inside, outside

    def _site(
        self, rng: np.random.Generator, nodes: npt.NDArray[np.integer], control: Grid, template: Grid
    ) -> tuple[npt.NDArray[np.integer], FloatArray]:
        """A node of the surface, and the unit vector from there into the body, along the axes of the grid."""
        surface, outside = self._surface(nodes, control, template)
        places = np.argwhere(surface & ~np.isin(nodes, self.held))
        if not len(places):
            places = np.argwhere(template.contains(control.points()))
        site = places[rng.integers(len(places))]
        soft = scipy.ndimage.gaussian_filter(outside.astype(float), _SOFT)
        inward = -np.array([slope[tuple(site)] for slope in np.gradient(soft, *control.spacing)])
        if np.linalg.norm(inward) < _FLAT / max(control.spacing):
            # there is no surface to speak of
            inward = ((np.asarray(control.shape) - 1) / 2 - site) * control.spacing + _FLAT
        return site, inward / np.linalg.norm(inward)
