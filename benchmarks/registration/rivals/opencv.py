"""OpenCV: ECC on a pyramid, SIFT with RANSAC, and dense flow (DIS) after ECC."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.registration.rivals import Array, Maps, field_maps, levels, luminance, matrix_maps

_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-6)
# Lowe's ratio of the two best matches, and RANSAC's distance in pixels
_RATIO, _REACH = 0.8, 3.0


def use(threads: int) -> None:
    """Threads of all functions."""
    cv2.setNumThreads(threads)


def image(values: npt.NDArray[np.float32], _: tuple[float, ...]) -> npt.NDArray[np.uint8]:
    """Bytes, y first; pixels are square."""
    return np.ascontiguousarray(luminance(values).T.round().clip(0, 255).astype(np.uint8))


def ecc(fixed: npt.NDArray[np.uint8], moving: npt.NDArray[np.uint8]) -> Maps:
    """Enhanced correlation coefficient, affine."""
    warp = _ecc(fixed, moving)
    return matrix_maps(warp[:, :2], warp[:, 2])


def sift(fixed: npt.NDArray[np.uint8], moving: npt.NDArray[np.uint8]) -> Maps:
    """An affine map through matches of SIFT features."""
    detector = cv2.SIFT_create()
    (here, words), (there, others) = (detector.detectAndCompute(image, None) for image in (fixed, moving))
    pairs = cv2.BFMatcher().knnMatch(words, others, k=2)
    good = [first for first, second in pairs if first.distance < _RATIO * second.distance]
    source, target = np.array([here[m.queryIdx].pt for m in good]), np.array([there[m.trainIdx].pt for m in good])
    warp, _ = cv2.estimateAffine2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=_REACH)
    return matrix_maps(warp[:, :2], warp[:, 2])


def ecc_dis(fixed: npt.NDArray[np.uint8], moving: npt.NDArray[np.uint8]) -> Maps:
    """ECC, then the flow to the image moved by it."""
    warp = _ecc(fixed, moving)
    moved = cv2.warpAffine(moving, warp, fixed.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(fixed, moved, None)

    def maps(points: Array) -> Array:
        return matrix_maps(warp[:, :2], warp[:, 2])(field_maps(flow.swapaxes(0, 1))(points))

    return maps


class Follower:
    """ECC from the last warp, on a pyramid of some levels; the fixed image's is made once.

    Parameters
    ----------
    fixed : bytes, x first
    kind : rigid or affine
    levels : of the pyramid, 1 for full resolution alone
    """

    def __init__(self, fixed: npt.NDArray[np.uint8], kind: str, levels: int) -> None:
        self._motion = cv2.MOTION_EUCLIDEAN if kind == "rigid" else cv2.MOTION_AFFINE
        self._levels = levels
        self._fixed = self._pyramid(fixed)

    def follow(self, frame: npt.NDArray[np.uint8], last: Maps | None) -> Maps:
        """Where points go; the last map again where ECC fails."""
        warp = np.eye(2, 3, dtype=np.float32)
        if last is not None:
            origin = last(np.zeros((1, 2)))[0]
            warp = np.ascontiguousarray(np.column_stack([(last(np.eye(2)) - origin).T, origin]), dtype=np.float32)
        moving = self._pyramid(frame)
        for level in reversed(range(self._levels)):
            small = warp * np.array([1, 1, 0.5**level], np.float32)
            try:
                small = cv2.findTransformECC(self._fixed[level], moving[level], small, self._motion, _CRITERIA, None, 5)[1]
            except cv2.error:
                return last or matrix_maps(np.eye(2), np.zeros(2))
            warp = small * np.array([1, 1, 2.0**level], np.float32)
        return matrix_maps(warp[:, :2], warp[:, 2])

    def _pyramid(self, image: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
        levels = [np.ascontiguousarray(image.T)]
        for _ in range(self._levels - 1):
            levels.append(cv2.pyrDown(levels[-1]))
        return levels


def _ecc(fixed: npt.NDArray[np.uint8], moving: npt.NDArray[np.uint8]) -> Array:
    pyramids = [[fixed], [moving]]
    for pyramid in pyramids:
        for _ in range(levels(fixed.shape) - 1):
            pyramid.append(cv2.pyrDown(pyramid[-1]))
    # centres aligned
    shift = (np.array(moving.shape[::-1]) - np.array(fixed.shape[::-1])) / 2
    warp = np.column_stack([np.eye(2), shift]).astype(np.float32)
    for level in reversed(range(len(pyramids[0]))):
        small = warp * np.array([1, 1, 0.5**level], np.float32)
        small = cv2.findTransformECC(pyramids[0][level], pyramids[1][level], small, cv2.MOTION_AFFINE, _CRITERIA, None, 5)[1]
        warp = small * np.array([1, 1, 2.0**level], np.float32)
    return warp
