"""Side-by-side measurements of augreg and other registration software."""
