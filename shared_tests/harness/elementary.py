"""exp, tanh and log from sums, products and quotients alone, so that every processor gives the same bits.

For a `numpy.longdouble` NumPy asks the processor itself (F2XM1, FYL2X), and makers differ in the last bits. Once in
some thousand numbers such a bit decides which float64 is nearest, and with it the signs of that number's noise. These
are within 3 units in the last place, in any dtype: the argument is reduced by multiples of log 2, then a series summed
(Muller, "Elementary Functions", 2016).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

LOG2, LOG2_REST = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
"""log 2, to 86 bits: a multiple of the first part is exact up to 2^21."""
SMALLEST = -12000
"""Below this, the exponential is 0 in every format."""


def exp(x: npt.ArrayLike) -> npt.NDArray[Any]:
    """e^x."""
    rest, halvings = _rest_less_one(np.maximum(x, SMALLEST))
    return np.ldexp(1 + rest, halvings)


def tanh(x: npt.ArrayLike) -> npt.NDArray[Any]:
    """The hyperbolic tangent, (e^2x - 1) / (e^2x + 1), with nothing lost where x is small."""
    rest, doublings = _rest_less_one(2 * np.clip(x, -50, 50))
    less_one = np.ldexp(rest, doublings) + (np.ldexp(np.ones_like(rest), doublings) - 1)
    return less_one / (less_one + 2)


def log(x: npt.ArrayLike) -> npt.NDArray[Any]:
    """The natural logarithm, of positive numbers: log 2^n m = n log 2 + 2 atanh((m - 1) / (m + 1))."""
    part, doublings = np.frexp(x)
    low = part < np.sqrt(0.5)
    part, doublings = np.where(low, 2 * part, part), doublings - low
    f = (part - 1) / (part + 1)
    series = np.zeros_like(f)
    for n in range(25, 0, -2):
        series = f.dtype.type(1) / n + f * f * series
    return doublings * LOG2 + (doublings * LOG2_REST + 2 * f * series)


def _rest_less_one(x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """e^r - 1 and n, where x = r + n log 2 and |r| is at most half of log 2."""
    n = np.rint(x / (LOG2 + LOG2_REST))
    r = x - n * LOG2 - n * LOG2_REST
    series = np.ones_like(r)
    for k in range(17, 1, -1):
        series = 1 + r / k * series
    return r * series, np.nan_to_num(n).astype(np.int64)  # NaN stays NaN by r
