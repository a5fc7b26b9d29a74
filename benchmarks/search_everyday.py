"""What people type: a hundred questions over the sample workspace, and how often the
right item is first, or among the first five, for each kind of question.

    python benchmarks/search_everyday.py [--url http://127.0.0.1:8000] [--misses]

Without `--url` it serves search in this process, without Ray. The items are those of
the sample workspace and some sixty that are planted beside them: items with a code,
each with a twin whose code differs in two digits; items in ten languages; items about
people; and texts with the words of a phrase in another order. The right answers follow
from how the questions are made. Another `--seed` makes another hundred: tune with one
and judge by another.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import tempfile
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from common import machine, remove, table

from shoal import Client, operator_client
from shoal.local.embedded_servers import EmbeddedServers
from shoal.local.sample import workspace
from shoal.testing.app import CapabilityApp

TENANT = "search-everyday"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
WORD = re.compile(r"[^\W\d_]{4,}")

CODED = (
    "The importer stops with {} when the file begins with a byte order mark.",
    "Printing the delivery note shows {} and an empty page.",
    "Since Tuesday the nightly export ends in {}, nothing is written.",
    "{}: the customer wants the old price list back.",
    "Part {} is out of stock until the supplier answers.",
    "Please approve {}, the hotel needs the answer today.",
    "{} was paid twice, the second payment is on its way back.",
    "Two tablets in the warehouse report {} after a restart.",
    "We promised {} to the northern region for this month.",
    "The badge reader at the side entrance blinks red and logs {}.",
    "Contract {} ends in spring, decide whether to go on.",
    "Camera 3 shows {} instead of a picture.",
)
SHAPES = ("ERR-{}", "PROJ-{}", "INV-2026-{}", "SKU-{}-B", "RMA_{}", "E{}-X")
SENTENCES = (
    "why does {} happen after the upgrade",
    "has anybody here seen {} before",
    "what did we decide about {} last month",
    "a customer on the phone asks about {}",
    "is {} still open or can I close it",
    "how do I explain {} to the people in finance",
)
LANGUAGES = {
    "German": ("Schlüssel für die Tür im Erdgeschoß", "Prüfung der Gehälter im Frühjahr"),
    "French": ("Réunion d'équipe reportée à la rentrée", "Créer un modèle de résumé"),
    "Spanish": ("Revisión del diseño de la página", "Contraseña de la compañía caducada"),
    "Portuguese": ("Reunião sobre a votação da comissão", "Relatório de férias já está pronto"),
    "Polish": ("Zażółć gęślą jaźń przed świętami", "Płatność za usługę łączności"),
    "Czech": ("Příliš žluťoučký kůň úpěl", "Žádost o změnu účtu zákazníka"),
    "Danish": ("Tørring af æbler på gården", "Køb af skærme til mødelokalet"),
    "Turkish": ("Müşteri görüşmesi için çalışma", "Ödeme sözleşmesi değişti"),
    "Croatian": ("Račun za grijanje već plaćen", "Uređaj ne šalje izvješće"),
    "Vietnamese": ("Báo cáo tiền lương tháng này", "Đơn hàng bị hủy hôm qua"),
}
PEOPLE = {
    "Kovačević": "kovacevic",
    "Łukasz Wiśniewski": "lukasz wisniewski",
    "Søren Kjærgaard": "soren kjaergaard",
    "François Lefèvre": "francois lefevre",
    "Müller-Lüdenscheid": "mueller luedenscheid",
    "Niamh O'Sullivan": "niamh osullivan",
    "Þórhallur Eiríksson": "thorhallur eiriksson",
    "Nguyễn Thị Hằng": "nguyen thi hang",
    "Jean-Baptiste Dubois": "jean baptiste dubois",
    "Özgür Yıldız": "ozgur yildiz",
}
"""Names as they are written, and as they are typed by somebody in a hurry."""
VISITS = (
    "{} visits us on Thursday, book the small room.",
    "Ask {} for the figures before the meeting.",
    "The laptop of {} came back from repair.",
)
UNFOLDED = str.maketrans({"ß": "ss", "ł": "l", "ø": "o", "đ": "d", "Đ": "D", "æ": "ae", "ı": "i"})


@dataclass(frozen=True, slots=True)
class Question:
    """What is typed, and the items of which one is right."""

    kind: str
    text: str
    right: frozenset[str]


class Everyday:
    """The items and the questions of a seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        sample = workspace("acme", seed=7, now=NOW)
        self.items: list[dict[str, Any]] = list(sample.items())
        self.boards = [board.id for board in sample.boards]
        self.threads: dict[str, set[str]] = {}
        for item in self.items:
            title = item["title"].removeprefix("Re: ")
            self.threads.setdefault(title, set()).add(item["id"])
        titles = [item["title"] for item in self.items if item["type"] == "item"]
        self.titles = [t for t in titles if len(WORD.findall(t)) >= 3]
        self.prose = [item["text"] for item in self.items if item["type"] == "update"]
        self.questions: list[Question] = []
        for ask in (self.ask_titles, self.ask_codes, self.ask_accents, self.ask_names):
            ask()
        self.ask_phrases()

    def plant(self, title: str, text: str) -> str:
        """Add an item of some board and time; its id."""
        id = f"planted-{len(self.items)}"
        at = NOW - timedelta(hours=self.random.randint(1, 2000))
        board, kind = self.random.choice(self.boards), self.random.choice(("item", "update"))
        self.items.append(
            {
                "id": id,
                "board_id": board,
                "type": kind,
                "title": title,
                "text": text,
                "updated_at": at.isoformat(),
            }
        )
        return id

    def ask(self, kind: str, text: str, *right: str) -> None:
        self.questions.append(Question(kind, text, frozenset(right)))

    def ask_titles(self) -> None:
        """A thread's title as written, with typos, and with its last word begun."""
        titles = self.random.sample(self.titles, 38)
        for title in titles[:10]:
            self.ask("as written", title, *self.threads[title])
        for title in titles[10:26]:
            typed = WORD.sub(lambda m: mistype(m[0], self.random), title)
            self.ask("a typo in each word", typed, *self.threads[title])
        for title in titles[26:]:
            *words, last = re.findall(r"\w+", title)[:5]
            begun = last[: max(2, len(last) - self.random.randint(2, 5))]
            self.ask("last word begun", " ".join([*words, begun]), *self._begins(words, begun))

    def _begins(self, words: Sequence[str], begun: str) -> set[str]:
        """The items of threads in whose title all these words are."""
        found: set[str] = set()
        for title, ids in self.threads.items():
            have = [word.lower() for word in re.findall(r"\w+", title)]
            whole = {word.lower() for word in words} <= set(have)
            if whole and any(word.startswith(begun.lower()) for word in have):
                found |= ids
        return found

    def ask_codes(self) -> None:
        """A code in a sentence, in a pasted mail, and without its hyphens."""
        made = []
        for i in range(32):
            digits = self.random.sample("123456789", 4)
            shape = SHAPES[i % len(SHAPES)]
            code = shape.format("".join(digits))
            digits[1], digits[2] = digits[2], digits[1]
            text = CODED[i % len(CODED)]
            made.append((code, self.plant("", text.format(code))))
            self.plant("", text.format(shape.format("".join(digits))))
        for code, id in made[:12]:
            self.ask("a code in a sentence", self.random.choice(SENTENCES).format(code), id)
        for code, id in made[12:22]:
            self.ask("a code in a pasted mail", self._mail(code), id)
        for n, (code, id) in enumerate(made[22:]):
            bare = re.sub(r"[-_]", ("", " ")[n % 2], code)
            self.ask("a code without hyphens", bare if n % 3 else bare.lower(), id)

    def _mail(self, code: str) -> str:
        parts = self.random.sample(self.prose, 6)
        parts.insert(self.random.randint(1, 5), f"On Monday we saw {code} again.")
        return "Hi all,\n\n" + "\n".join(parts) + "\n\nBest regards\nHannah"

    def ask_accents(self) -> None:
        """Ten languages: typed without accents, and as a Mac sends them."""
        for n, texts in enumerate(LANGUAGES.values()):
            planted = [self.plant(text, text + ".") for text in texts]
            which = self.random.randrange(2)
            typed = plain(texts[which]) if n % 2 else unicodedata.normalize("NFD", texts[which])
            self.ask("accents, ten languages", typed, planted[which])

    def ask_names(self) -> None:
        for n, (written, typed) in enumerate(PEOPLE.items()):
            self.ask("names", typed, self.plant("", VISITS[n % len(VISITS)].format(written)))

    def ask_phrases(self) -> None:
        """Four words in a row, which a planted text has in another order."""
        asked = 0
        for text in self.random.sample(self.prose, len(self.prose)):
            words = re.findall(r"[\w']+", text)
            start = self.random.randrange(max(len(words) - 4, 1))
            phrase = words[start : start + 4]
            pattern = re.compile(r"\W+".join(map(re.escape, phrase)), re.IGNORECASE)
            right = [i["id"] for i in self.items if pattern.search(f"{i['title']}\n{i['text']}")]
            if len(phrase) == 4 and len(set(phrase)) == 4 and pattern.search(text):
                turned = " ".join([*phrase[2:], *phrase[:2][::-1]])
                self.plant(turned, f"{turned}. {turned}.")
                self.ask("exact phrases", f'"{" ".join(phrase)}"', *right)
                asked += 1
            if asked == 10:
                break


def mistype(word: str, random: Random) -> str:
    """The word with one letter left out, doubled, replaced or swapped with the next."""
    at = random.randrange(1, len(word) - 1)
    way = random.randrange(4)
    if way == 0:
        return word[:at] + word[at + 1 :]
    if way == 1:
        return word[:at] + word[at] + word[at:]
    if way == 2:
        return word[:at] + random.choice("aeinorst") + word[at + 1 :]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def plain(text: str) -> str:
    """The text in ASCII, as it is typed on a keyboard without these letters."""
    parts = unicodedata.normalize("NFD", text.translate(UNFOLDED))
    return "".join(c for c in parts if not unicodedata.combining(c))


@contextlib.contextmanager
def served(url: str | None) -> Iterator[Client]:
    """A client of a new tenant, of a running Shoal or of this process."""
    if url:
        with operator_client() as operator:
            remove_if_there(operator)
            operator.platform.create_tenant(body={"id": TENANT, "name": "Everyday"})
            try:
                key = operator.platform.create_key(id=TENANT, body={"role": "editor"})["key"]
                with Client(url, key) as client:
                    yield client
            finally:
                remove(operator, TENANT)
        return
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        servers = EmbeddedServers(Path(folder))
        try:
            app = CapabilityApp(servers.start(), ["search"])
            with app.client(TENANT) as client:
                yield client
            app.close()
        finally:
            servers.stop()


def remove_if_there(operator: Any) -> None:
    if TENANT in {t["id"] for t in operator.platform.list_tenants(limit=1000)["tenants"]}:
        remove(operator, TENANT)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="of a running Shoal")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--misses", action="store_true", help="show what was not first")
    given = parser.parse_args()
    everyday = Everyday(given.seed)
    places: dict[str, list[int]] = {}
    times = []
    with served(given.url) as client:
        for start in range(0, len(everyday.items), 64):
            answer = client.search.add_items(body=everyday.items[start : start + 64])
            assert not answer["rejected"], answer["rejected"][:3]
        for question in everyday.questions:
            began = time.perf_counter()
            hits = client.search.search(q=question.text, limit=5)["hits"]
            times.append(time.perf_counter() - began)
            found = [hit["id"] in question.right for hit in hits]
            place = found.index(True) if True in found else 5
            places.setdefault(question.kind, []).append(place)
            if given.misses and place:
                show_miss(question, hits, place)
    places["all"] = [place for some in places.values() for place in some]
    rows = [(kind, among(1, p), among(5, p)) for kind, p in places.items()]
    print(machine())
    print(f"{len(everyday.items):,} items; median {1000 * statistics.median(times):.1f} ms")
    table(f"Right item found, seed {given.seed}", ["question", "first", "in five"], rows)


def among(first: int, places: list[int]) -> str:
    return f"{sum(place < first for place in places)} of {len(places)}"


def show_miss(question: Question, hits: list[dict[str, Any]], place: int) -> None:
    asked = " ".join(question.text.split())
    first = f"{hits[0]['title']} | {hits[0]['snippet']}"[:90] if hits else "nothing"
    print(f"{question.kind}, place {place + 1 if place < 5 else '-'}: {asked[:90]}\n    {first}")


if __name__ == "__main__":
    main()
