"""What is minimised, in words: one or several joined by +, each with a weight behind a colon if it is not 1.

    truth         the end-point error, where the pairs know it
    velocity      velocities against the logarithm of what the pairs know, for the map velocity
    likeness      local correlation of the fixed and the warped image
    squares       their mean squared difference
    mind          their self-similarities, for two contrasts
    edges         directions of their edges, for two contrasts
    information   their mutual information, for two contrasts
    labels        overlap of their label maps, one structure per pair and step

`likeness+labels:2` is both, the second with weight 2.
"""

from __future__ import annotations

import math

from augreg.networks import (
    edge_difference,
    local_correlation,
    mean_squared_difference,
    mutual_information_loss,
    self_similarity_difference,
)
from augreg.training import LabelOverlap, Likeness, Objective, Total, supervised, velocities

_LIKENESSES = {
    "likeness": local_correlation,
    "squares": mean_squared_difference,
    "mind": self_similarity_difference,
    "edges": edge_difference,
    "information": mutual_information_loss,
}
# as other programs say it
_SAME = {"mi": "information", "ncc": "likeness", "mse": "squares", "ngf": "edges", "dice": "labels"}
# these need to know where things are
TRUE: dict[str, Objective] = {"truth": supervised, "velocity": velocities}
WORDS = (*TRUE, *_LIKENESSES, "labels")


def objective_words(text: str) -> list[tuple[str, float]]:
    """The words of an objective and their weights.

    Raises
    ------
    ValueError : for other words, words that come twice, and weights that are not positive.
    """
    found: dict[str, float] = {}
    for part in text.split("+") if isinstance(text, str) else [repr(text)]:
        word, colon, weight = part.strip().partition(":")
        word = _SAME.get(word, word)
        try:
            number = float(weight) if colon else 1.0
        except ValueError:
            number = math.nan
        if word not in WORDS or word in found or not 0 < number < math.inf:
            raise ValueError(f"objective: expected one or more of {', '.join(WORDS)}, as likeness+labels:2, got {text!r}")
        found[word] = number
    return list(found.items())


def objective_of(text: str, spacing: tuple[float, ...] | None = None, structures: tuple[int, ...] = (1,)) -> Objective:
    """The objective that words say.

    Parameters
    ----------
    text : the words
    spacing : size of a voxel, mm, for label maps; None is 1 mm
    structures : labels that are looked at; 1 where one is drawn at a time

    Raises
    ------
    ValueError : as `objective_words`.
    """
    words = objective_words(text)
    if len(words) == 1 and words[0][1] == 1:
        return _objective(words[0][0], spacing, structures)
    return Total(tuple((_objective(word, spacing, structures), weight) for word, weight in words))


def _objective(word: str, spacing: tuple[float, ...] | None, structures: tuple[int, ...]) -> Objective:
    if word in TRUE:
        return TRUE[word]
    return LabelOverlap(structures, spacing=spacing or 1.0) if word == "labels" else Likeness(_LIKENESSES[word])
