"""The definitions that every tenant begins with."""

import json

from shoal_features.catalog import SHARED_DEFINITIONS
from shoal_features.registry import Registry

REGISTRY = Registry.from_dict(json.loads(SHARED_DEFINITIONS.read_text()))
