"""The transforms for MONAI, under the name by which people know them; see `augreg.streams.monai`."""

from augreg.streams.monai import RandPaird, RandWarpPaird

__all__ = ["RandPaird", "RandWarpPaird"]
