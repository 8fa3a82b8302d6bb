"""Contrasts of people: every person through a random map of intensities of its own (`augreg.training.contrast_mapped`)."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np

from augreg.training.contrasts import random_knots, remapped
from benchmarks.experiments.people import Study, Subject


def own_contrasts(study: Study) -> Study:
    """The study, every image of a person through the map of that person."""

    def seen(one: Subject) -> Subject:
        rng = np.random.default_rng(zlib.crc32(one.person.encode()))
        return replace(one, image=one.image.with_values(remapped(one.image.values, random_knots(rng))))

    return replace(study, training=tuple(map(seen, study.training)), test=tuple(map(seen, study.test)))
