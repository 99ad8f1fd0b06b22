"""What dialects do with vectors that an engine made."""

from __future__ import annotations

import math

from appliance.domain.errors import InvalidParameter


def cut(vector: list[float], dimensions: int | None) -> list[float]:
    """The first ``dimensions`` numbers scaled to length 1, for models trained so that this makes sense; None: all.

    Raises InvalidParameter for more than there are.
    """
    if dimensions is None:
        return vector
    if dimensions > len(vector):
        raise InvalidParameter(f"dimensions {dimensions} is above the model's {len(vector)}")
    first = vector[:dimensions]
    length = max(math.hypot(*first), 1e-12)
    return [value / length for value in first]
