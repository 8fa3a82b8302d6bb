"""Numba kernels of the problem itself: whether the numbers make sense, and both objectives, row by row."""

from solvers._compile import njit


@njit(cache=True, nogil=True, error_model="numpy")
def fault(data, lower, at_lower, pointers, widths, slopes):
    """0 for a sound program; 1: a row without segments, 2: not finite, 3: a width below 0, 4: slopes that descend."""
    for i in range(len(lower)):
        if pointers[i + 1] <= pointers[i]:
            return 1
    for numbers in (data, lower, at_lower, widths, slopes):
        # 0 times infinity or NaN is NaN: one sum costs less than a look at each
        total = 0.0
        for i in range(len(numbers)):
            total += 0.0 * numbers[i]
        if total != 0.0:
            return 2
    for i in range(len(lower)):
        for k in range(pointers[i], pointers[i + 1]):
            if widths[k] < 0.0:
                return 3
            if k > pointers[i] and slopes[k] < slopes[k - 1]:
                return 4
    return 0


@njit(cache=True, nogil=True, error_model="numpy")
def costs(starts, columns, data, lower, at_lower, pointers, widths, slopes, c, f, excess):
    """f_i(a_i . c), continued with the last slopes outside the interval, and how far a_i . c lies outside."""
    for i in range(len(lower)):
        x = -lower[i]
        for a in range(starts[i], starts[i + 1]):
            x += data[a] * c[columns[a]]
        first, last = pointers[i], pointers[i + 1] - 1
        value, left = at_lower[i] + min(x, 0.0) * slopes[first], x
        for k in range(first, last + 1):
            value += min(max(left, 0.0), widths[k]) * slopes[k]
            left -= widths[k]
        f[i] = value + max(left, 0.0) * slopes[last]
        excess[i] = max(-x, left, 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def conjugates(lower, at_lower, pointers, widths, slopes, mu, out):
    """f_i*(mu_i) = mu_i l_i - f_i(l_i) + sum_k w_ik max(0, mu_i - g_ik)."""
    for i in range(len(lower)):
        total = mu[i] * lower[i] - at_lower[i]
        for k in range(pointers[i], pointers[i + 1]):
            total += widths[k] * max(mu[i] - slopes[k], 0.0)
        out[i] = total


@njit(cache=True, nogil=True, error_model="numpy")
def balances(starts, columns, data, mu, out, scale):
    """A^T mu and |A|^T |mu|."""
    out[:] = 0.0
    scale[:] = 0.0
    for i in range(len(mu)):
        for a in range(starts[i], starts[i + 1]):
            part = data[a] * mu[i]
            out[columns[a]] += part
            scale[columns[a]] += abs(part)
