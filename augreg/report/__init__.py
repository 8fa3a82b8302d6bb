"""Figures and self-contained HTML pages."""

from augreg.report import _backend  # noqa: F401  # before whatever imports matplotlib
from augreg.report.beside import beside_sections
from augreg.report.cohort import cohort_page
from augreg.report.comparison import comparison_page
from augreg.report.curves import Curve, Diagram, evaluation_diagrams
from augreg.report.demo import DemoStory, HeldOut, demo_page
from augreg.report.model import model_page
from augreg.report.registration import registration_page
from augreg.report.scores import Scores
from augreg.report.series import series_page
from augreg.report.small import cohort_picture

__all__ = [
    "Curve",
    "DemoStory",
    "Diagram",
    "HeldOut",
    "Scores",
    "beside_sections",
    "cohort_page",
    "cohort_picture",
    "comparison_page",
    "demo_page",
    "evaluation_diagrams",
    "model_page",
    "registration_page",
    "series_page",
]
