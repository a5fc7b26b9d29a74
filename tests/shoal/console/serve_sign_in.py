"""The console with an identity provider, for the tests beside this file.

Its argument is a JSON object: the `port`, the section `sign_in`, and the `authority`
whose certificates are trusted.
"""

import json
import os
import sys
from typing import Any

from samples import GREETING

from shoal.testing.console import serve_console


async def seed(platform: Any) -> None:
    await platform.directory.boards.replace("acme", "plans", ["ana"])


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    os.environ["SSL_CERT_FILE"] = given["authority"]
    console = {"sign_in": given["sign_in"]}
    serve_console([GREETING], seed=seed, port=given["port"], console=console)
