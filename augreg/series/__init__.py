"""Series of frames, aligned frame by frame: how the scene moves, and what it looks like without."""

from augreg.series.align import Aligned, FrameState, align_series
from augreg.series.folder import write_aligned
from augreg.series.motion import Moved, moved_of

__all__ = ["Aligned", "FrameState", "Moved", "align_series", "moved_of", "write_aligned"]
