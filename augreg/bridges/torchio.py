"""A registration as a TorchIO transform of subjects.

    subject[name](x) becomes subject[name](phi(x)) on the grid of subject[fixed],      phi = registration(fixed, moving)

Label maps are moved by nearest neighbour, other images linearly. The subject's history holds phi, so that it can be replayed and
undone: `subject.apply_inverse_transform()` takes what lies on the fixed grid back to where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from augreg.geometry.image import Image
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform as Phi
from augreg.missing import missing
from augreg.ras import grid_of_ras
from augreg.registration.method import Registration, as_method

try:
    import torch
    import torchio
    from torchio.transforms import Transform
except ModuleNotFoundError as error:
    raise missing("torchio", error, "torchio") from error

# shape (3,) and affine (4, 4) of an image in RAS
Place = tuple[tuple[int, ...], np.ndarray]


class Register(Transform):
    """Aligns an image of a subject with another one of it.

    Parameters
    ----------
    fixed : name of the fixed image, which stays as it is
    moving : name of the image that is registered to it
    registration : any callable (fixed, moving) -> Transform of augreg, such as `LPRegistration()`
    along : names of images and label maps in the space of the moving one, which move with it
    fill : value outside the moving images
    options : options of every TorchIO transform: p, copy, keep and so on
    """

    def __init__(
        self, fixed: str, moving: str, registration: Registration, along: Sequence[str] = (), fill: float = 0.0, **options: Any
    ) -> None:
        super().__init__(**options)
        if isinstance(along, str) or fixed in (moving, *along):
            raise ValueError(f"along: expected names of moving images without the fixed one, {fixed!r}, got {along!r}")
        self.fixed, self.names, self.fill = fixed, (moving, *along), float(fill)
        self.registration = as_method("registration", registration)

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        """The subject with the moving images on the fixed grid."""
        for name in (self.fixed, *self.names):
            if name not in subject.get_images_names():
                raise ValueError(f"{name}: expected an image of this name in the subject, got {subject.get_images_names()}")
        # TorchIO makes numpy raise at overflows
        with np.errstate(all="warn"):
            phi = self.registration(_image(self.fixed, subject), _image(self.names[0], subject))
        places = {name: _place(subject[name]) for name in self.names}
        done: torchio.Subject = Moved(phi, _place(subject[self.fixed]), places, self.fill)(subject)
        return done

    def _add_transform_to_subject_history(self, subject: torchio.Subject) -> None:
        # `Moved` stands there
        pass


class Moved(Transform):
    """Images of a subject seen through a transform, or back through its inverse: what `Register` leaves in the history.

    Parameters
    ----------
    phi : transform of augreg, fixed space to moving space
    fixed : shape and affine in RAS of the fixed image
    moving : the same of every moving image, by name
    fill : value outside the moving images
    options : options of every TorchIO transform
    """

    def __init__(self, phi: Phi, fixed: Place, moving: Mapping[str, Place], fill: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.phi, self.fixed, self.moving, self.fill = phi, fixed, dict(moving), fill
        # names that TorchIO knows: with these it makes the transform again, and with this it turns it round
        self.args_names = ["phi", "fixed", "moving", "fill"]
        self.invert_transform = False

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        """The subject with the images moved."""
        with np.errstate(all="warn"):
            for name, place in self.moving.items():
                if name in subject.get_images_names():
                    self._move(name, subject, place if self.invert_transform else self.fixed)
        return subject

    def _move(self, name: str, subject: torchio.Subject, onto: Place) -> None:
        shape, affine = onto
        grid = grid_of_ras(name, _axes(shape), affine)
        phi = self.phi.inverse(grid) if self.invert_transform else self.phi
        labels = isinstance(subject[name], torchio.LabelMap)
        image = _image(name, subject)
        moved = warp(image, phi, grid, interpolation="nearest" if labels else "linear", fill=self.fill).values
        channels = moved.reshape(*shape, image.channels)
        tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(channels, -1, 0)))
        subject[name].set_data(tensor.to(subject[name].data.dtype))
        subject[name].affine = affine


def _place(image: torchio.Image) -> Place:
    return tuple(int(n) for n in image.spatial_shape), np.array(image.affine, dtype=np.float64)


def _axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Two axes of a volume of one slice."""
    return shape[:2] if shape[2] == 1 else shape


def _image(name: str, subject: torchio.Subject) -> Image:
    shape, affine = _place(subject[name])
    grid = grid_of_ras(name, _axes(shape), affine)
    values = np.moveaxis(subject[name].data.numpy(), 0, -1)
    return Image(values.reshape(*grid.shape, *((values.shape[-1],) if values.shape[-1] > 1 else ())), grid)
