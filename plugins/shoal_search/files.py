"""Files that are sent to be found by their text."""

import asyncio
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from shoal import Invalid

from . import file_reader

MAX_FILE_BYTES = 20 * 2**20
SECONDS = 30
"""How long reading one file may take."""
AT_ONCE = 2
"""Files that one process of the capability reads at a time."""
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
KINDS = {
    "application/octet-stream": "",
    "application/pdf": "PDF",
    DOCX: "DOCX",
    "text/html": "HTML",
    "text/markdown": "Markdown",
    "text/plain": "text",
}
"""What a file is by its media type; empty is by its first bytes."""


@dataclass(frozen=True, slots=True)
class FileText:
    """What was read of a file.

    Attributes:
        title: What the file says that it is called; may be empty.
        text: Its text, not blank, without markup.
        truncated: Whether the file has more text.
    """

    title: str
    text: str
    truncated: bool


class FileReader:
    """Reads files, each in a process of its own with bounded time and memory."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def read(self, data: bytes, media_type: str) -> FileText:
        """Read a file's text.

        Args:
            data: The file.
            media_type: One of `KINDS`.

        Raises:
            Invalid: It is no such file, is encrypted, has no text, or takes too long
                or too much memory; the error says which.
        """
        if not data:
            raise Invalid.at("body", "the file is empty")
        if len(data) > MAX_FILE_BYTES:
            raise Invalid.at(
                "body", f"the file is {len(data):,} bytes, over the limit of {MAX_FILE_BYTES:,}"
            )
        async with self._turns:
            answer = await _run(data, KINDS[media_type])
        if "error" in answer:
            raise Invalid.at("body", str(answer["error"]))
        return FileText(**answer)


async def _run(data: bytes, kind: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(Path(file_reader.__file__)),
        kind,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.defpath, "LANG": "C.UTF-8"},
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate(data)
    except TimeoutError:
        return {"error": f"the file takes longer than {SECONDS} seconds to read"}
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode != 0:
        return {"error": "the file takes too long, or too much memory, to read"}
    answer: dict[str, Any] = orjson.loads(output)
    return answer
