"""The library of compiled kernels, for tests that call it themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.engines.llama import kernels

BUILT = sorted(Path(kernels.__file__).parent.glob("_kernels*.so"))
_UNUSABLE = kernels.reason_against("x86_64", kernels.processor_flags() - set(kernels.VNNI), "")
computes = pytest.mark.skipif(not BUILT or _UNUSABLE is not None, reason=_UNUSABLE or "the kernels were not compiled")
"""Where this processor can run them, whether they take part on it or not."""
