"""When the libraries of stores are imported."""

import subprocess
import sys

SCRIPT = """
import sys
from shoal.runtime.plugins import installed
from shoal.stores.configuration import StoreConfig
from shoal.tenants.tenant_stores import import_stores

stores = installed().capabilities["search"].stores
assert "lancedb" not in sys.modules
import_stores(StoreConfig(online="redis://x", vectors="/x", lake="/x"), stores)
assert "lancedb" in sys.modules
"""


def test_a_store_is_imported_before_the_first_request() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
