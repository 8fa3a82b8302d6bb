"""Where benchmarks read and write."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# real images, beside the checkout
DATA = ROOT.parent / "shared" / "data"
# the people of `brain2d` that nothing is learned from and nothing is tuned on
TEST_BRAINS = ("1003", "1007", "1018", "1036", "1104", "1110", "1116", "1128")


def kept(name: str) -> Path:
    """The result of a benchmark that the repository keeps."""
    return ROOT / "benchmarks" / "results" / f"{name}.json"


def fresh(name: str) -> Path:
    """A result that git ignores."""
    return ROOT / "runs" / "benchmarks" / f"{name}.json"
