"""Many images aligned to one, as files: what a folder of them holds, how far one has come, and which of them to doubt."""

from augreg.cohort.doubts import doubts_of, off_in
from augreg.cohort.folder import CohortState, files_of, write_cohort
from augreg.cohort.lines import Line

__all__ = ["CohortState", "Line", "doubts_of", "files_of", "off_in", "write_cohort"]
