"""What all tests share: how long hypothesis searches, and where optional sample files lie."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["serving", "local"]

# Deadlines are off: a busy machine is no defect.
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("quick", max_examples=60, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("long", max_examples=5000, deadline=None, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of sample files beside the checkout; skip the test where there is none."""
    if not _SHARED.is_dir():
        pytest.skip("no sample files in ../shared/data")
    return _SHARED
