"""The appearance model: mean shape, mean appearance, and a subspace of variations for each.

An instance with shape coefficients b, pose T and appearance a (values on the template's grid) is the image

    image(y) = a(B(y)),      B = psi^-1,      psi(x) = T(x + sum_j b_j v_j(x)),      psi: template -> instance,

where v_j is the B-spline of the j-th mode of the shapes, or psi is T o exp(sum_j b_j v_j) (`augreg.sam.maps`). The splines are
linear in b, so textures are sampled without a fit per instance; B is psi's inverse. Pairs have splines through B at nodes,
which are their maps by definition (`augreg.synthesis.render.maps`).

Appearances come from two sources, a(x) = sum_i w_i(x) t_i(x) + sum_j a_j sqrt(lambda_j) p_j(x):
* the modes p_j (with equal weights w_i = 1/n the first sum is the mean): a linear-Gaussian model that can be projected onto, but
  sums of modes have ghosts and Gaussian intensities where real ones have two peaks;
* mosaics of the training textures t_i, w = softmax_i(g_i), g_i = beta times independent Gaussian fields of unit variance with the
  finest taper R. For large beta, w picks one image at each place: intensities have the training distribution exactly, and the
  covariance is C o R', R'_ab the chance that two places pick the same image: again C made local, without any mode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from augreg import notebook
from augreg.geometry import cards
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import sample
from augreg.geometry.splines import control_grid
from augreg.geometry.transforms import Composition, Transform
from augreg.sam.alignment import Alignment, align, pose_size, pose_transform
from augreg.sam.contours import Contours
from augreg.sam.density import Kind, ShapeDensity, fit_density
from augreg.sam.factors import GridFactor
from augreg.sam.label_maps import commonest, sample_labels
from augreg.sam.locality import Locality, grid_taper_factor
from augreg.sam.maps import Maps
from augreg.sam.one_thread import one_thread
from augreg.sam.posterior import Posterior, posterior
from augreg.sam.sampler import JointSampler
from augreg.sam.subspace import Subspace
from augreg.sam.textures import mirrored_points, sample_texture

# beta of mosaics: transitions between two training textures take about a tenth of the finest taper's length. With 5 two anatomies
# mix where one is meant, which shows as grey half-tones and in the spectra; 20 makes seams (benchmarks/synthesis/plausibility.py)
SHARPNESS = 10.0


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Where an image lies in a model: `shape` (Ks,) and `appearance` (Ka,) in standard deviations, `pose` (P,)."""

    shape: FloatArray
    appearance: FloatArray
    pose: FloatArray


@dataclass(frozen=True, eq=False)
class AppearanceModel:
    """A statistical model of shape and appearance.

    Parameters
    ----------
    template : the grid of the mean appearance; its space is that of the mean shape
    shape : positions of points, vectors (m D) mm in the template's space, point by point
    appearance : intensities at the points of the template, vectors (N), row-major, float32
    textures : the training appearances t_i for mosaics, (n, N) float32, equal in overall intensity and a little sharpened, since
        they are sampled twice
    gains : factors from these common intensities to the images' own, (n,)
    poses : training poses, (n, P), see `augreg.sam.alignment.pose_transform`; their mean is 0
    alignment : what a pose may contain
    maps : kind of the points, and of the maps psi that follow from them, see `augreg.sam.maps`
    intensities : least and largest intensity; instances are clipped to them
    locality : reach of correlations in the modes
    contours : scheme of the points of a label map that are the landmarks, if the model was fitted to label maps
    label_maps : the training images' label maps in the mean shape, (n, N), if there were any
    residuals : residuals of the training shapes, (n, m, D) mm, from which exact samples are made
    observed : least and largest intensity of the training images themselves, see `range`
    """

    template: Grid
    shape: Subspace
    appearance: Subspace
    textures: npt.NDArray[np.float32]
    gains: FloatArray
    poses: FloatArray
    alignment: Alignment
    maps: Maps
    intensities: tuple[float, float]
    locality: Locality
    contours: Contours | None = None
    label_maps: npt.NDArray[np.integer] | None = None
    residuals: FloatArray | None = None
    observed: tuple[float, float] | None = None

    @property
    def ndim(self) -> int:
        """D."""
        return self.template.ndim

    @property
    def range(self) -> tuple[float, float]:
        """Least and largest intensity of the training images, which synthetic ones do not leave.

        Of models that do not know it: what their intensities and gains allow.
        """
        if self.observed is not None:
            return self.observed
        allowed = np.outer(self.intensities, self.gains)
        return float(allowed.min()), float(allowed.max())

    @property
    def landmarks(self) -> FloatArray:
        """The points of the mean shape, (m, D) mm."""
        return self.shape.mean.reshape(-1, self.ndim)

    @property
    def mean(self) -> Image:
        """The mean appearance in the mean shape."""
        return self._image(self.appearance.mean)

    @property
    def center(self) -> FloatArray:
        """c, the fixed point of the poses' rotations and scales, (D,) mm."""
        return self.landmarks.mean(axis=0)

    @cached_property
    def control(self) -> Grid:
        """The control points of psi."""
        return control_grid(self.template)

    @cached_property
    def mode_splines(self) -> FloatArray:
        """v_j, the B-spline coefficients of one standard deviation of every shape mode, (Ks, *control.shape, D) mm.

        They are those of displacements, or of velocities where the maps are exponentials.
        """
        deviations = (self.shape.basis * np.sqrt(self.shape.variance)).T.reshape(self.shape.rank, -1, self.ndim)
        # pairs are functions of these bits
        with one_thread():
            return self._lift(deviations)

    def _repr_html_(self) -> str:
        told = {
            "fitted to": f"{len(self.textures)} images",
            "modes": f"{self.shape.rank} of shape, {self.appearance.rank} of appearance",
            "landmarks": str(len(self.landmarks)),
            "labels": "none" if self.label_maps is None else str(len(np.unique(self.label_maps[self.label_maps != 0]))),
            **cards.facts(self.template),
        }
        return notebook.card("AppearanceModel", told, cards.pictures(self.mean.values, self.template))

    def transform(self, shape: npt.ArrayLike = (), pose: npt.ArrayLike | None = None) -> Transform:
        """psi, template -> instance, of shape coefficients (k <= Ks) and a pose (P,), by default none."""
        b = np.asarray(shape, dtype=np.float64)
        if b.size > self.shape.rank:
            raise ValueError(f"shape: expected at most {self.shape.rank} coefficients, one per mode, got {b.size}")
        psi = self.maps.motion.transform(np.tensordot(b, self.mode_splines[: b.size], axes=1), self.control)
        return psi if pose is None else self._posed(psi, np.asarray(pose, dtype=np.float64))

    def instance(self, shape: npt.ArrayLike = (), appearance: npt.ArrayLike = (), pose: npt.ArrayLike | None = None) -> Image:
        """The image of some coefficients, in standard deviations; those not named are 0. Pose by default none."""
        texture = np.clip(self.appearance.instance(np.asarray(appearance, dtype=np.float64)), *self.intensities)
        return self._render(texture, self.transform(shape, pose))

    def coefficients(self, image: Image, landmarks: npt.ArrayLike) -> Coefficients:
        """Where an image with landmarks (m, D) mm lies in the model."""
        points = np.ascontiguousarray(landmarks, dtype=np.float64)
        if points.shape != self.landmarks.shape:
            raise ValueError(f"landmarks: expected shape {self.landmarks.shape}, the model's, got {points.shape}")
        aligned, pose = align(points, self.landmarks, self.alignment)
        return Coefficients(
            self.shape.coefficients(aligned.ravel()), self.appearance.coefficients(self.texture(image, landmarks)), pose
        )

    def project(self, image: Image, landmarks: npt.ArrayLike) -> Image:
        """The nearest image of the model, in its pose: shape and appearance projected orthogonally."""
        found = self.coefficients(image, landmarks)
        return self.instance(found.shape, found.appearance, found.pose)

    def posterior(self, landmarks: npt.ArrayLike, noise: float) -> Posterior:
        """The shapes that go with some known landmarks.

        Shape and pose are found in turns: the pose is that of all landmarks, the unknown ones as expected so far. The pose of
        the known ones alone would be another, off by what the shape of a part differs from the mean's.

        Parameters
        ----------
        landmarks : positions, (m, D) mm; NaN where unknown
        noise : standard deviation of the errors of known coordinates, mm

        Raises
        ------
        ValueError : for landmarks of another shape, with too few known, or noise that is not positive and finite.
        """
        return posterior(self.shape, self.landmarks, self.alignment, landmarks, noise)

    @cached_property
    def sampler(self) -> JointSampler:
        """Exact samples of shapes and textures that share their fields, so that both vary together: see `augreg.sam.sampler`.

        Raises
        ------
        ValueError : for a model without residuals.
        """
        if self.residuals is None:
            raise ValueError("residuals: expected those of the training shapes, this model has none; fit it again")
        spread = self.textures - self.textures.mean(axis=0)
        mean = self.appearance.mean
        return JointSampler(self.landmarks, self.residuals, mean, spread, self.template, self.locality.of_textures)

    def density(self, kind: Kind = "gaussian") -> ShapeDensity:
        """Where shape coefficients are drawn from, see `augreg.sam.density`.

        Raises
        ------
        ValueError : for an unknown kind; for another than the Gaussian of a model without residuals, or of few images.
        """
        if kind not in self._densities:
            self._densities[kind] = fit_density(
                self._known_shapes if kind != "gaussian" or self.residuals is not None else np.zeros((0, self.shape.rank)), kind
            )
        return self._densities[kind]

    @cached_property
    def _densities(self) -> dict[str, ShapeDensity]:
        return {}

    @cached_property
    def _known_shapes(self) -> FloatArray:
        """Shape coefficients of the training images, (n, Ks)."""
        if self.residuals is None:
            raise ValueError("residuals: expected those of the training shapes, this model has none; fit it again")
        return self.shape.coefficients(self.shape.mean + self.residuals.reshape(len(self.residuals), -1))

    @cached_property
    def mixing(self) -> GridFactor:
        """G of the finest taper, R = G G^T, on the template's grid: mosaics are made with fields G omega.

        Of scale 1, whatever the modes' scale: pieces much smaller than organs would be speckle.
        """
        locality = replace(self.locality.of_textures, scale=1.0)
        return grid_taper_factor(self.template, locality, locality.levels, float(np.linalg.norm(self.template.extent)))

    def mosaic(self, weights: FloatArray) -> FloatArray:
        """The texture (N,) of field weights beta omega, (n, q): a local blend of the training textures, sharp for large beta."""
        g = self.mixing.times(np.asarray(weights, dtype=np.float32).T)
        w = np.exp(g - g.max(axis=1, keepdims=True)).T
        return (w * self.textures).sum(axis=0) / w.sum(axis=0)

    def sample(self, rng: np.random.Generator, pose: bool = True, sharpness: float = SHARPNESS) -> Image:
        """A random image: a random shape with a mosaic of the training textures; without pose variation on request."""
        return self.invented(rng.standard_normal(self.shape.rank), rng, pose, sharpness)

    def invented(self, b: FloatArray, rng: np.random.Generator, pose: bool = True, sharpness: float = SHARPNESS) -> Image:
        """An image of the shape b (Ks,), as `sample` for the rest."""
        n = len(self.poses)
        texture = self.mosaic(sharpness * rng.standard_normal((n, self.mixing.columns)))
        turn = rng.standard_normal(n) @ self.poses / np.sqrt(n - 1)
        return self._render(texture, self.transform(b, turn if pose else None))

    def truncate(self, shape: int, appearance: int) -> AppearanceModel:
        """The model with its first modes only."""
        return replace(self, shape=self.shape.truncate(shape), appearance=self.appearance.truncate(appearance))

    def texture(self, image: Image, landmarks: npt.ArrayLike) -> FloatArray:
        """The intensities (N,) of an image in the mean shape, scaled to the mean appearance; missing places take the mean's."""
        points = np.ascontiguousarray(landmarks, dtype=np.float64)
        aligned, pose = align(points, self.landmarks, self.alignment)
        psi = self.maps.motion.transform(self._lift((aligned - self.landmarks)[None])[0], self.control)
        values = sample_texture(image, self._posed(psi, pose), self.template)
        mean = self.appearance.mean
        seen = np.isfinite(values)
        gain = float(values[seen] @ mean[seen] / max(float(values[seen] @ values[seen]), 1e-300))
        return np.where(seen, gain * values, mean)

    def _lift(self, displacements: FloatArray) -> FloatArray:
        return self.maps.coefficients(displacements, self.landmarks, self.template, self.control)

    def _posed(self, psi: Transform, pose: FloatArray) -> Transform:
        if pose.shape != (pose_size(self.ndim),):
            raise ValueError(f"pose: expected {pose_size(self.ndim)} numbers, got shape {pose.shape}")
        return Composition((pose_transform(pose, self.center), psi))

    def _image(self, texture: FloatArray) -> Image:
        return Image(texture.reshape(self.template.shape), self.template)

    def _render(self, texture: FloatArray, psi: Transform) -> Image:
        points = mirrored_points(psi.solve(self.template.points()), self.template)
        values = sample(self._image(texture), points, interpolation="cubic")
        # cubic splines go beyond what they interpolate
        return self._image(np.clip(values, *self.intensities).astype(np.float32))

    @cached_property
    def labels(self) -> npt.NDArray[np.integer] | None:
        """The label map of the mean shape, (*template.shape): the commonest label at every place; the smaller one of equals."""
        if self.label_maps is None:
            return None
        return commonest(self.label_maps).reshape(self.template.shape)

    def label_map(
        self, shape: npt.ArrayLike = (), pose: npt.ArrayLike | None = None, weights: FloatArray | None = None
    ) -> Labels:
        """The label map of an instance.

        Parameters
        ----------
        shape, pose : see `transform`
        weights : field weights of a mosaic, see `mosaic`: at every place the labels of the image that weighs most there, so that
            labels go with the texture; by default the labels of the mean shape

        Raises
        ------
        ValueError : if the model was not fitted to label maps.
        """
        if self.label_maps is None or self.labels is None:
            raise ValueError("model: expected one fitted to label maps, this one has no labels; fit it with labels=")
        there = self.labels
        if weights is not None:
            g = self.mixing.times(np.asarray(weights, dtype=np.float32).T)
            there = np.take_along_axis(self.label_maps, g.argmax(axis=1)[None], axis=0).reshape(self.template.shape)
        points = mirrored_points(self.transform(shape, pose).solve(self.template.points()), self.template)
        return Labels(sample_labels(Labels(there, self.template), points), self.template)
