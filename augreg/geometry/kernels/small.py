"""Systems of two and three equations."""

from solvers._compile import inlined


@inlined
def determinant(a, b, c, d, e, f, g, h, i):
    """Of [[a, b, c], [d, e, f], [g, h, i]]."""
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


@inlined
def solved_2(a, b, c, d, det, x, y):
    """[[a, b], [c, d]]^-1 (x, y), given the determinant."""
    return (d * x - b * y) / det, (a * y - c * x) / det


@inlined
def solved_3(a, b, c, d, e, f, g, h, i, det, x, y, z):
    """[[a, b, c], [d, e, f], [g, h, i]]^-1 (x, y, z), given the determinant."""
    return (
        ((e * i - f * h) * x + (c * h - b * i) * y + (b * f - c * e) * z) / det,
        ((f * g - d * i) * x + (a * i - c * g) * y + (c * d - a * f) * z) / det,
        ((d * h - e * g) * x + (b * g - a * h) * y + (a * e - b * d) * z) / det,
    )
