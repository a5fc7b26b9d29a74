"""E-mail, by the server that the operator has configured."""

import asyncio
import logging
import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate

from .channels import Email
from .messages import Message
from .settings import MailServer

log = logging.getLogger("shoal.anomalies")

TIMEOUT = 10.0  # seconds, for each step
TOTAL_TIMEOUT = 30.0  # seconds
MAX_SUBJECT = 200


async def send_mail(server: MailServer, channel: Email, message: Message) -> str | None:
    """Send a message; None on success, else what went wrong."""
    mail = build_mail(server, channel, message)
    try:
        await asyncio.wait_for(asyncio.to_thread(_deliver, server, mail), TOTAL_TIMEOUT)
    except TimeoutError:
        return "the mail server did not answer in time"
    except smtplib.SMTPRecipientsRefused:
        return "the mail server refused every recipient"
    except smtplib.SMTPResponseException as error:
        return f"the mail server answered with status {error.smtp_code}"
    except OSError as error:  # smtplib's other errors are among them
        log.warning("the mail server cannot be reached: %s", type(error).__name__)
        return "the mail server cannot be reached"
    return None


def build_mail(server: MailServer, channel: Email, message: Message) -> EmailMessage:
    """The message as an e-mail, whose `X-Shoal-Notice` is the same at every attempt."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = server.sender
    mail["To"] = ", ".join(channel.to)
    mail["Subject"] = " ".join(message.title.split())[:MAX_SUBJECT]
    mail["Date"] = formatdate()
    mail["Message-ID"] = f"<{message.id}@{server.sender.rpartition('@')[2]}>"
    mail["X-Shoal-Notice"] = message.id
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.body)
    return mail


def _deliver(server: MailServer, mail: EmailMessage) -> None:
    context = ssl.create_default_context()
    smtp: smtplib.SMTP
    if server.security == "tls":
        smtp = smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT, context=context)
    else:
        smtp = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT)
    with smtp:
        if server.security == "starttls":
            smtp.starttls(context=context)
        if server.username is not None and server.password is not None:
            smtp.login(server.username, server.password.get_secret_value())
        smtp.send_message(mail)
