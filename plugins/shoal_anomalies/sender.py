"""Sends messages to channels.

What goes wrong is told to the tenant in words of our own: nothing that a server has
answered but its status, and no address.
"""

import logging
import time

import httpx

from shoal import EgressRefused, Services

from .channels import AnyChannel, Email
from .mail import send_mail
from .messages import Message
from .service_requests import build_request
from .settings import AnomalySettings

log = logging.getLogger("shoal.anomalies")

TIMEOUT = 10.0  # seconds


async def send(services: Services, channel: AnyChannel, message: Message) -> str | None:
    """Send a message; None on success, else what went wrong."""
    if isinstance(channel, Email):
        server = services.settings(AnomalySettings).email
        if server is None:
            return "the platform is not set up to send e-mail"
        return await send_mail(server, channel, message)
    request = build_request(channel, message, time.time())
    try:
        async with services.egress.async_client(timeout=TIMEOUT) as http:
            async with http.stream(
                "POST", request.url, content=request.body, headers=dict(request.headers)
            ) as response:
                status = response.status_code
    except EgressRefused as error:
        return f"not sent: {error}"
    except httpx.TimeoutException:
        return f"no answer within {TIMEOUT:g} seconds"
    except httpx.HTTPError as error:
        log.info("a %s channel cannot be reached: %s", channel.type, type(error).__name__)
        return "the service cannot be reached"
    if 300 <= status < 400:
        return f"the service answered with status {status}; redirects are not followed"
    return None if status < 300 else f"the service answered with status {status}"
