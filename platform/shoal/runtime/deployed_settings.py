"""The settings that travel with a deployment to every machine of a cluster.

`shoal up` and `shoal deploy` give Ray's runtime environment one variable with them, and
`shoal config` writes it into each application. Whatever the applications start has it
too: stream workers, job processes, Ray Data's tasks. Secrets do not travel, since Ray
shows runtime environments in its dashboard and logs: they are in the environment of
each machine.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import SecretStr

from shoal.contract.errors import Invalid

from .configuration import SETTINGS, Config, plain_value

OF_A_MACHINE = ("address", "data", "dashboard_port", "ray_port", "ray_client_port")
"""What belongs to the machine where a command runs."""
MAX_BYTES = 64 * 2**10
"""Of the settings as JSON; Linux takes twice as much in one variable."""
SECRET_NAME = re.compile(
    r"(^|_)(password|passwd|secret|token|credentials?|(api|access)_?key)s?$", re.IGNORECASE
)
USER_IN_URI = re.compile(r"://[^/?#\s]*@|[?&](password|token|secret)=", re.I)

Place = tuple[str, ...]


def deployed_environment(config: Config) -> dict[str, str]:
    """The variable that brings the settings to the processes of a cluster.

    Raises:
        Invalid: A secret is set in the file; or the settings are too long.
    """
    settings = json.dumps(deployed_settings(config), sort_keys=True)
    if len(settings.encode()) > MAX_BYTES:
        raise Invalid(f"the configuration is longer than {MAX_BYTES} bytes as JSON")
    return {SETTINGS: settings}


def deployed_settings(config: Config) -> dict[str, Any]:
    """What is configured, by file, environment or option, without the secrets.

    Raises:
        Invalid: A secret is set in the file, and would be missing on other machines.
    """
    settings = config.model_dump(exclude_unset=True, exclude=set(OF_A_MACHINE))
    for place in list(find_secrets(settings)):
        if not _in_environment(place):
            raise Invalid(
                f"{'.'.join(place)} is a secret, which does not travel with a deployment: set"
                f" {_variable(place)} in the environment of every machine, not in the file"
            )
        _remove(settings, place)
    return {name: plain_value(value) for name, value in settings.items()}


def find_secrets(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where a configuration holds a secret; a list that holds one is one.

    A secret is declared as such, named as such (`password`, `api_key`), or a URI with
    a user.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from find_secrets(inner, (*place, str(name)))
    elif isinstance(value, list | tuple | set | frozenset):
        if any(True for inner in value for _ in find_secrets(inner, place)):
            yield place
    elif isinstance(value, SecretStr):
        yield place
    elif isinstance(value, str) and value:
        named = bool(place) and SECRET_NAME.search(place[-1])
        if named or USER_IN_URI.search(value):
            yield place


def _variable(place: Place) -> str:
    return "SHOAL_" + "__".join(place).upper()


def _in_environment(place: Place) -> bool:
    """Whether the place, or a table that holds it, is set by the environment."""
    given = {name.upper() for name in os.environ}
    return any(_variable(place[:end]) in given for end in range(1, len(place) + 1))


def _remove(settings: dict[str, Any], place: Place) -> None:
    *tables, last = place
    for name in tables:
        settings = settings[name]
    del settings[last]
