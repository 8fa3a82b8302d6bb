"""Commands of augreg as a whole."""
