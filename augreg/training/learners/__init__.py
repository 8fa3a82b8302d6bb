"""Those who learn, each in a module of its own; see `augreg.training.learner`."""
