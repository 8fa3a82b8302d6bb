"""Numba kernels of the problem itself: whether the numbers make sense, and both objectives, row by row."""

from solvers._compile import kernel


@kernel
def fault(data, lower, at_lower, pointers, widths, slopes):
    """0 for a sound program; 1: a row without segments, 2: not finite, 3: a width below 0, 4: slopes that descend."""
    for i in range(len(lower)):
        if pointers[i + 1] <= pointers[i]:
            return 1
    # 0 times infinity or NaN is NaN: one sum costs less than a look at each
    total = 0.0
    for i in range(len(data)):
        total += 0.0 * data[i]
    for i in range(len(lower)):
        total += 0.0 * lower[i] + 0.0 * at_lower[i]
    for i in range(len(widths)):
        total += 0.0 * widths[i] + 0.0 * slopes[i]
    if total != 0.0:
        return 2
    for i in range(len(lower)):
        for k in range(pointers[i], pointers[i + 1]):
            if widths[k] < 0.0:
                return 3
            if k > pointers[i] and slopes[k] < slopes[k - 1]:
                return 4
    return 0


@kernel
def costs(starts, columns, data, lower, at_lower, pointers, widths, slopes, c, f, excess):
    """f_i(a_i . c), continued with the last slopes outside the interval, and how far a_i . c lies outside; sum and maximum."""
    total, worst = 0.0, 0.0
    for i in range(len(lower)):
        x = -lower[i]
        for a in range(starts[i], starts[i + 1]):
            x += data[a] * c[columns[a]]
        first, last = pointers[i], pointers[i + 1] - 1
        value, left = at_lower[i] + (x * slopes[first] if x < 0.0 else 0.0), x
        for k in range(first, last + 1):
            part = left if left > 0.0 else 0.0
            value += (part if part < widths[k] else widths[k]) * slopes[k]
            left -= widths[k]
        f[i] = value + (left * slopes[last] if left > 0.0 else 0.0)
        outside = -x if -x > left else left
        excess[i] = outside if outside > 0.0 else 0.0
        total += f[i]
        worst = excess[i] if excess[i] > worst else worst
    return total, worst


@kernel
def conjugates(lower, at_lower, pointers, widths, slopes, mu):
    """sum_i f_i*(mu_i), with f_i*(mu_i) = mu_i l_i - f_i(l_i) + sum_k w_ik max(0, mu_i - g_ik)."""
    total = 0.0
    for i in range(len(lower)):
        total += mu[i] * lower[i] - at_lower[i]
        for k in range(pointers[i], pointers[i + 1]):
            above = mu[i] - slopes[k]
            total += widths[k] * above if above > 0.0 else 0.0
    return total


@kernel
def balances(starts, columns, data, mu, out, scale):
    """A^T mu and |A|^T |mu|; the largest entry of the one relative to 1 + the other."""
    for j in range(len(out)):
        out[j] = 0.0
        scale[j] = 0.0
    for i in range(len(mu)):
        for a in range(starts[i], starts[i + 1]):
            part = data[a] * mu[i]
            out[columns[a]] += part
            scale[columns[a]] += abs(part)
    worst = 0.0
    for j in range(len(out)):
        share = abs(out[j]) / (1 + scale[j])
        worst = share if share > worst else worst
    return worst
