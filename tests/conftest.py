"""What every test may use."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SHARED = Path(os.environ.get("SHOAL_REFERENCE", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository, or a skip that says so."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data at {SHARED} (set SHOAL_REFERENCE)")
    return SHARED
