"""Whether somebody's skill is the one that a task asks for: the same word, a synonym,
or near in meaning.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

How = Literal["exact", "synonym", "meaning"]
Embed = Callable[[Sequence[str]], ArrayLike]
"""Texts → one vector each, shape (texts, dimensions)."""

SYNONYMS: tuple[frozenset[str], ...] = tuple(
    frozenset(group.split("|"))
    for group in (
        "ml|machine learning",
        "ai|artificial intelligence",
        "dl|deep learning",
        "nlp|natural language processing",
        "cv|computer vision",
        "js|javascript|ecmascript",
        "ts|typescript",
        "k8s|kubernetes",
        "postgres|postgresql",
        "golang|go",
        "c#|csharp|c sharp",
        "c++|cpp",
        "react|reactjs|react.js",
        "vue|vuejs|vue.js",
        "node|nodejs|node.js",
        "ux|user experience|ux design",
        "ui|user interface|ui design",
        "qa|quality assurance|testing",
        "pm|project management",
        "devops|dev ops",
        "ci/cd|ci|continuous integration|continuous delivery",
        "aws|amazon web services",
        "gcp|google cloud|google cloud platform",
        "sre|site reliability engineering",
        "bi|business intelligence",
        "hr|human resources",
        "seo|search engine optimization|search engine optimisation",
        "tf|tensorflow",
        "sklearn|scikit-learn|scikit learn",
    )
)


@dataclass(frozen=True)
class Match:
    """The skill somebody has that answers a required one, how it was recognised, and
    how near it is (1 when the same).
    """

    required: str
    found: str
    how: How
    similarity: float


def normal(name: str) -> str:
    """A skill's name without differences of case, accents, hyphens and spacing."""
    text = unicodedata.normalize("NFKD", name).casefold()
    text = "".join(c for c in text if not unicodedata.combining(c))
    return re.sub(r"[\s_-]+", " ", text).strip()


class Matcher:
    """Recognises required skills among the skills people have.

    vectors: name → vector for the names that may match by meaning (see `embedded`);
    without them only the same word and synonyms match. similarity: the cosine from
    which two names mean the same.
    """

    def __init__(
        self,
        similarity: float = 0.6,
        vectors: Mapping[str, ArrayLike] | None = None,
        synonyms: Iterable[frozenset[str]] = SYNONYMS,
    ) -> None:
        self.similarity = similarity
        self._group = {normal(name): n for n, group in enumerate(synonyms) for name in group}
        self._vectors = {normal(name): unit(vector) for name, vector in (vectors or {}).items()}
        self._known: dict[str, dict[str, Match | None]] = {}

    def best(self, required: str, skills: Mapping[str, float]) -> Match | None:
        """Among somebody's skills (name → level) the one that answers best: the
        nearest, then of the highest level.
        """
        best: Match | None = None
        known = self._known.setdefault(required, {})
        for name in skills:
            if name not in known:
                known[name] = self._compare(required, name)
            match = known[name]
            if match is not None and (
                best is None
                or (match.similarity, skills[match.found]) > (best.similarity, skills[best.found])
            ):
                best = match
        return best

    def _compare(self, required: str, found: str) -> Match | None:
        a, b = normal(required), normal(found)
        if a == b:
            return Match(required, found, "exact", 1.0)
        if a in self._group and self._group[a] == self._group.get(b):
            return Match(required, found, "synonym", 1.0)
        if a in self._vectors and b in self._vectors:
            cosine = float(self._vectors[a] @ self._vectors[b])
            if cosine >= self.similarity:
                return Match(required, found, "meaning", min(1.0, cosine))
        return None


def unit(vector: ArrayLike) -> np.ndarray:
    """The vector at length 1 (all zeros stay zeros)."""
    values = np.asarray(vector, dtype=np.float64)
    return values / max(float(np.linalg.norm(values)), 1e-12)


def embedded(names: Iterable[str], embed: Embed) -> dict[str, np.ndarray]:
    """Vectors for skills' names, as `Matcher` takes them."""
    unique = sorted({normal(name) for name in names})
    return (
        dict(zip(unique, np.asarray(embed(unique), dtype=np.float64), strict=True))
        if unique
        else {}
    )
