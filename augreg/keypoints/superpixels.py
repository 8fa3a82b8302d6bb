"""Classes of superpixels (after Kybic and Borovec, MICCAI 2018).

Superpixels by SLIC (Achanta et al. 2012, IEEE TPAMI 34(11)), their mean colours (in L*a*b*, or the channels as they are) put into
a few classes by k-means. Registered with the criterion "classes", boundaries between classes give the keypoints. They were
meant for images whose stains differ, where correlation of profiles is three times as exact (`python -m benchmarks run stains`):
they are for segmentations of which nothing but the borders can be compared.
"""

from __future__ import annotations

import numpy as np

from augreg.geometry.image import Image, Labels

_COMPACTNESS = 0.1


def superpixel_classes(image: Image, *, size: float = 15.0, classes: int = 3) -> Labels:
    """Every voxel's class, 1 .. classes, in order of brightness.

    Parameters
    ----------
    image : 2-D or 3-D, with or without channels
    size : edge length of a superpixel, voxels
    classes : number of classes, at least 2

    Raises
    ------
    ValueError : for sizes below 2, fewer than two classes, fewer superpixels than classes, or values that are not finite.
    """
    from skimage.color import rgb2lab  # slow to import, and needed only here
    from skimage.segmentation import slic
    from sklearn.cluster import KMeans

    if size < 2 or classes < 2:
        raise ValueError(f"size, classes: expected at least 2 voxels and 2 classes, got {size} and {classes}")
    values = np.asarray(image.values, dtype=np.float64).reshape(*image.grid.shape, -1)
    if not np.isfinite(values).all():
        raise ValueError("image: expected finite values, got NaN or infinity; mask or replace them first")
    low, high = np.percentile(values, (0.5, 99.5))
    values = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    if image.ndim == 2 and values.shape[-1] == 3:
        values = rgb2lab(values) / 100
    count = max(classes, round(image.grid.size / size**image.ndim))
    pieces = slic(values, count, _COMPACTNESS, channel_axis=-1, start_label=0, convert2lab=False)
    sizes = np.bincount(pieces.ravel())
    sums = [np.bincount(pieces.ravel(), channel.ravel()) for channel in np.moveaxis(values, -1, 0)]
    colours = np.stack(sums, axis=1) / np.maximum(sizes, 1)[:, None]
    if np.count_nonzero(sizes) < classes:
        raise ValueError(f"image: expected at least {classes} superpixels, got {np.count_nonzero(sizes)}; make them smaller")
    found = KMeans(classes, n_init=4, random_state=0).fit(colours, sample_weight=sizes)
    rank = np.empty(classes, dtype=np.uint8)
    rank[np.argsort(found.cluster_centers_[:, 0])] = np.arange(1, classes + 1)
    return Labels(rank[found.labels_][pieces], image.grid)
