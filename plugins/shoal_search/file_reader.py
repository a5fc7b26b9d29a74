"""Reads the text of one file, in a process of its own that may be killed.

Run as a script: the file on standard input, its kind as the argument, and JSON with the
text, or with what is wrong, on standard output. It imports nothing of Shoal.
"""

import io
import json
import sys
import unicodedata
import zipfile
from collections.abc import Callable, Iterable

MAX_TEXT_BYTES = 60_000
"""UTF-8 bytes of text that are read."""
MAX_PAGES = 2_000
MAX_UNPACKED_BYTES = 100 * 2**20
"""Of all parts of a DOCX file together."""
MAX_PARTS = 5_000
MEMORY_BYTES = 2**30
CPU_SECONDS = 20
DOCUMENT = "word/document.xml"
UNSEEN = {code: None for code in range(32) if chr(code) not in "\t\n"} | {13: 10, 12: 10}
"""Control characters; form feeds and carriage returns are line feeds."""


class Unreadable(Exception):
    """What is wrong with a file, for who sent it."""


def read_pdf(data: bytes) -> tuple[str, str]:
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise Unreadable("is encrypted: send it without a password")
    if len(reader.pages) > MAX_PAGES:
        raise Unreadable(f"has {len(reader.pages):,} pages, over the limit of {MAX_PAGES:,}")
    title = reader.metadata.title if reader.metadata else None
    return str(title or ""), _join(page.extract_text() for page in reader.pages)


def read_docx(data: bytes) -> tuple[str, str]:
    from docx import Document
    from docx.oxml.ns import qn
    from docx.text.paragraph import Paragraph

    parts = zipfile.ZipFile(io.BytesIO(data)).infolist()
    if len(parts) > MAX_PARTS:
        raise Unreadable(f"has {len(parts):,} parts, over the limit of {MAX_PARTS:,}")
    # A part that says less than it has is cut by zipfile.
    if (size := sum(part.file_size for part in parts)) > MAX_UNPACKED_BYTES:
        raise Unreadable(
            f"is {size:,} bytes when unpacked, over the limit of {MAX_UNPACKED_BYTES:,}"
        )
    document = Document(io.BytesIO(data))
    paragraphs = document.element.body.iter(qn("w:p"))  # those of tables as well
    text = _join(Paragraph(element, document).text for element in paragraphs)
    return document.core_properties.title, text


def read_html(data: bytes) -> tuple[str, str]:
    import html_text
    from lxml import etree

    tree = html_text.parse_html(_decode(data))
    title = " ".join("".join(found.itertext()) for found in tree.iter("title"))
    etree.strip_elements(tree, "title", with_tail=False)
    return title, html_text.extract_text(tree)


def read_markdown(data: bytes) -> tuple[str, str]:
    from markdown_it import MarkdownIt

    markup = MarkdownIt("commonmark").enable("table").render(_decode(data))
    return "", read_html(markup.encode())[1]


def read_text(data: bytes) -> tuple[str, str]:
    return "", _decode(data)


READERS: dict[str, Callable[[bytes], tuple[str, str]]] = {
    "PDF": read_pdf,
    "DOCX": read_docx,
    "HTML": read_html,
    "Markdown": read_markdown,
    "text": read_text,
}


def detect_kind(data: bytes) -> str:
    """The kind of a file, by its first bytes."""
    start = data[:1_024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"%pdf-" in start:
        return "PDF"
    if start.startswith(b"pk\x03\x04"):
        return "DOCX"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "HTML"
    return "Markdown"


def read_file(data: bytes, kind: str) -> dict[str, object]:
    """The title and the text of a file.

    Args:
        data: The file.
        kind: One of `READERS`, or empty.

    Returns:
        `title`, `text` and `truncated`, or `error`.
    """
    kind = kind or detect_kind(data)
    try:
        title, text = READERS[kind](data)
        text = unicodedata.normalize("NFC", _clean(text)).strip()
        if not text:
            raise Unreadable("has no text; images are not read")
    except Unreadable as error:
        return {"error": f"the file {error}"}
    except MemoryError:
        return {"error": f"the file needs more than {MEMORY_BYTES >> 20:,} MiB to be read"}
    except Exception as error:  # the libraries raise many kinds
        return {"error": f"the file cannot be read as {kind} ({type(error).__name__})"}
    title = " ".join(_clean(title).split())
    kept = text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
    return {"title": title[:500], "text": kept, "truncated": len(kept) < len(text)}


def _clean(text: str) -> str:
    """Text without control characters and halves of surrogate pairs."""
    return text.translate(UNSEEN).encode("utf-8", "replace").decode()


def _decode(data: bytes) -> str:
    """Text as UTF-8, as UTF-16 with its mark, or else as Windows-1252."""
    encodings = ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise Unreadable("is text in an unknown encoding: send it as UTF-8")


def _join(parts: Iterable[str]) -> str:
    """Parts with blank lines between them, until there is enough."""
    found: list[str] = []
    size = 0
    for part in parts:
        if part := part.strip():
            found.append(part)
            size += len(part.encode("utf-8", "replace")) + 2
            if size > MAX_TEXT_BYTES + 2:
                break
    return "\n\n".join(found)


def main() -> None:
    import logging
    import resource

    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = read_file(sys.stdin.buffer.read(), sys.argv[1])
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
