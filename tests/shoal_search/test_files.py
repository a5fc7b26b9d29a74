"""Text out of files, in processes that may be killed."""

import asyncio
import io
import zipfile
import zlib

import pytest
from docx import Document

from shoal import Invalid
from shoal_search import files
from shoal_search.file_reader import MAX_TEXT_BYTES
from shoal_search.files import DOCX, MAX_FILE_BYTES, FileReader, FileText
from shoal_search.items import Item

ANY = "application/octet-stream"


def read(data: bytes, media_type: str = ANY) -> FileText:
    return asyncio.run(FileReader().read(data, media_type))


def pdf(text: str, *, pages: int = 1, extra: bytes = b"", stream: bytes | None = None) -> bytes:
    """A PDF file, written by hand, with a line of text on each page."""
    content = stream or b"BT /F1 12 Tf 72 720 Td (%s) Tj ET" % text.encode("latin-1")
    filters = b"/Filter /FlateDecode " if stream else b""
    kids = b" ".join(b"%d 0 R" % (5 + n) for n in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, pages),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< %s/Length %d >>\nstream\n%s\nendstream" % (filters, len(content), content),
        *(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>"
            for _ in range(pages)
        ),
    ]
    written = bytearray(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    written += b"".join(b"%010d 00000 n \n" % place for place in places)
    written += b"trailer << /Size %d /Root 1 0 R %s >>\n" % (len(objects) + 1, extra)
    return bytes(written + b"startxref\n%d\n%%%%EOF\n" % start)


def docx(*paragraphs: str, title: str = "") -> bytes:
    document = Document()
    document.core_properties.title = title
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "left cell", "right cell"
    document.save(written := io.BytesIO())
    return written.getvalue()


def docx_with(part: bytes) -> bytes:
    """A DOCX file with another main part."""
    written = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(docx("x"))) as old,
        zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for info in old.infolist():
            name = info.filename
            new.writestr(name, part if name == "word/document.xml" else old.read(name))
    return written.getvalue()


W = b"http://schemas.openxmlformats.org/wordprocessingml/2006/main"
BILLION = (
    b'<?xml version="1.0"?><!DOCTYPE w [<!ENTITY a "lol">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(10))
    + b']><w:document xmlns:w="%s"><w:body><w:p><w:r><w:t>&k;</w:t></w:r></w:p></w:body>' % W
    + b"</w:document>"
)
EXTERNAL = (
    b'<?xml version="1.0"?><!DOCTYPE w [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b'<w:document xmlns:w="%s"><w:body><w:p><w:r><w:t>before &x; after</w:t></w:r></w:p></w:body>'
    b"</w:document>" % W
)


@pytest.mark.parametrize(
    ("data", "media_type", "title", "text"),
    [
        (pdf("Quarter plan"), "application/pdf", "", "Quarter plan"),
        (pdf("Quarter plan"), ANY, "", "Quarter plan"),
        (
            docx("Quarter plan", "Second", title="The plan"),
            DOCX,
            "The plan",
            "Quarter plan\n\nSecond\n\nleft cell\n\nright cell",
        ),
        (
            b"<html><head><title>The  plan</title><style>p{}</style></head><body><h1>Plan</h1>"
            b"<p>for <b>all</b> &lt;us&gt;<script>alert(1)</script></body></html>",
            ANY,
            "The plan",
            "Plan\n\nfor all <us>",
        ),
        ("<p>Größe".encode("cp1252"), "text/html", "", "Größe"),
        ("<p>Größe".encode("utf-16"), "text/html", "", "Größe"),
        (b"# Plan\n\n*For* <i>us</i><script>x</script>\n", ANY, "", "Plan\n\nFor us"),
        (b"a *star* <b>\r\n\x00\x07c", "text/plain", "", "a *star* <b>\n\nc"),
    ],
)
def test_text_is_read_without_markup(data: bytes, media_type: str, title: str, text: str) -> None:
    assert read(data, media_type) == FileText(title, text, False)


@pytest.mark.parametrize(
    ("data", "media_type", "error"),
    [
        (b"", ANY, "is empty"),
        (b"x" * (MAX_FILE_BYTES + 1), ANY, "over the limit"),
        (b"  \n", "text/plain", "no text"),
        (b"%PDF-1.4 and nothing", ANY, "cannot be read as PDF"),
        (pdf("")[:300], ANY, "cannot be read as PDF|no text"),
        (pdf(""), ANY, "has no text"),
        (pdf("x", pages=2_001), ANY, "2,001 pages"),
        (b"PK\x03\x04" + b"\0" * 100, ANY, "cannot be read as DOCX"),
        (docx("x")[:-400], ANY, "cannot be read as DOCX"),
        (docx_with(b" " * (101 * 2**20)), DOCX, "when unpacked"),
        (docx_with(b"<a>" * 100_000), DOCX, "cannot be read as DOCX"),
        (docx_with(BILLION), DOCX, "cannot be read as DOCX|no text"),
        (b"\xff\xfe\x00", "text/plain", "unknown encoding"),
        (b"<html><script>only()</script>", ANY, "has no text"),
    ],
    ids=lambda value: repr(value[:4]) if isinstance(value, bytes) else None,
)
def test_bad_files_are_refused_with_the_reason(data: bytes, media_type: str, error: str) -> None:
    with pytest.raises(Invalid, match=error) as raised:
        read(data, media_type)
    assert raised.value.errors[0]["location"] == "body"


def test_files_on_the_machine_cannot_be_named() -> None:
    try:
        text = read(docx_with(EXTERNAL), DOCX).text
    except Invalid:
        return
    assert "root:" not in text


def test_file_that_unpacks_to_gigabytes_is_refused() -> None:
    packed = zlib.compressobj(9)
    stream = b"".join(packed.compress(b" " * 2**24) for _ in range(128)) + packed.flush()
    with pytest.raises(Invalid, match=r"memory|cannot be read|MiB|no text"):
        read(pdf("", stream=stream))


@pytest.mark.parametrize("data", [b"<div>" * 300_000 + b"deep", b"<b>x" * 200_000])
def test_deep_markup_is_read_or_refused(data: bytes) -> None:
    try:
        assert len(read(data, "text/html").text.encode()) <= MAX_TEXT_BYTES
    except Invalid as error:
        assert "the file" in str(error)


def test_slow_file_is_given_up_and_its_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SECONDS", 0.01)
    with pytest.raises(Invalid, match="longer than"):
        read(pdf("x"))


def test_long_text_is_cut_and_says_so() -> None:
    found = read("Größe ".encode() * 20_000, "text/plain")
    assert found.truncated
    assert len(found.text.encode()) <= MAX_TEXT_BYTES
    grown = read(("\u0958" * 30_000).encode(), "text/plain")  # longer when it is normalized
    assert Item.model_validate(
        {"id": "1", "board_id": "b", "type": "file", "title": "", "text": grown.text}
        | {"updated_at": "2026-01-01T00:00:00Z"}
    )
    whole = read(docx(*["A paragraph of text."] * 10_000))
    assert whole.truncated
