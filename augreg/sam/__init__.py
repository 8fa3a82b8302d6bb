"""Locality-aware statistical models of shape and appearance, fitted to a few images."""

from augreg.sam.evaluate import Evaluation, Measure, evaluate, find_landmarks
from augreg.sam.files import read_model, write_model
from augreg.sam.fit import fit_appearance_model
from augreg.sam.landmarks import Contours, contours_correspond
from augreg.sam.locality import Locality
from augreg.sam.merges import Nested, WeightedSum
from augreg.sam.model import AppearanceModel, Coefficients
from augreg.sam.subspace import Subspace
from augreg.sam.tapers import TAPERS, Gaussian, Threshold, Wendland

__all__ = [
    "AppearanceModel",
    "Coefficients",
    "Contours",
    "Evaluation",
    "Locality",
    "Measure",
    "Subspace",
    "contours_correspond",
    "evaluate",
    "find_landmarks",
    "fit_appearance_model",
    "read_model",
    "write_model",
]
