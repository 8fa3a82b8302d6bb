"""What a model makes of landmarks that do not correspond well, and of textures that it samples."""

import numpy as np
from support.subjects import people

from augreg import Grid, Image, Labels, fit_appearance_model
from augreg.datasets import hearts
from augreg.geometry.transforms import BSpline
from augreg.sam import Locality
from augreg.sam.alignment import procrustes
from augreg.sam.training_splines import training_splines


def test_noisy_landmarks_count_less():
    images, _, landmarks = people(2)
    true = np.stack(landmarks)
    n, m, ndim = true.shape
    rng = np.random.default_rng(1)
    noisy = np.isin(np.arange(m), rng.choice(m, 5, replace=False))
    given = true.copy()
    given[:, noisy] += rng.normal(0, 4.0, (n, 5, ndim))
    model = fit_appearance_model(images, landmarks=list(given), rank=10, alignment="none", locality=Locality(levels=1))
    # those that move without their neighbours are smoothed most
    assert model.maps.smoothing[noisy].min() > 2 * model.maps.smoothing[~noisy].max()
    # and the others are met as if there were no noise
    shapes = procrustes(given, "none")
    _, coefficients = training_splines(shapes, model.template)
    met = np.stack([BSpline(c, model.control)(shapes.mean) for c in coefficients])
    misses = np.linalg.norm(met - true, axis=-1)[:, ~noisy]
    assert misses.mean() < 0.15


def test_textures_keep_the_sharpness_of_the_images():
    """Sampling takes from high frequencies; what is put back is as much: no band of the spectrum lacks or exceeds a tenth."""
    data, inner = hearts(), (slice(70, 190), slice(70, 190))
    grid = Grid((120, 120), data.images[0].grid.spacing)
    images = [Image(image.values[inner], grid) for image in data.images[:16:2]]
    labels = [Labels(image.values[inner], grid) for image in data.labels[:16:2]]
    model = fit_appearance_model(images, labels=labels, points=120, rank=20, locality=Locality(levels=2, scale=1.0))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(120), np.fft.fftfreq(120), indexing="ij"))

    def spectrum(textures):
        """Mean logarithm of the power in bands, of each image as a share of its own."""
        centred = textures - textures.mean(axis=(1, 2), keepdims=True)
        power = np.abs(np.fft.fft2(centred * np.outer(np.hanning(120), np.hanning(120)))) ** 2
        power /= power.sum(axis=(1, 2), keepdims=True)
        bands = [(frequency >= low) & (frequency < low + 0.1) for low in (0.1, 0.2, 0.3, 0.4)]
        return np.array([np.log(power[:, band].mean(axis=1)).mean() for band in bands])

    ratio = np.exp(spectrum(model.textures.reshape(-1, 120, 120)) - spectrum(np.stack([image.values for image in images])))
    np.testing.assert_allclose(ratio, 1, atol=0.1)
