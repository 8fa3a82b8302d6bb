"""Figures and self-contained HTML pages."""

from augreg.report.demo import DemoStory, demo_page
from augreg.report.model import model_page
from augreg.report.registration import registration_page

__all__ = ["DemoStory", "demo_page", "model_page", "registration_page"]
