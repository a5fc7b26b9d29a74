"""Matching of required skills with those people have.

A skill matches when it is the same word, a synonym, or near in meaning.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

How = Literal["exact", "synonym", "meaning"]

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
    """A skill somebody has that answers a required one.

    Attributes:
        required: The required skill.
        found: The one they have.
        how: How it was recognized.
        similarity: The cosine for "meaning", else 1.
    """

    required: str
    found: str
    how: How
    similarity: float

    @property
    def is_same(self) -> bool:
        """Whether both are one skill, and not only near in meaning."""
        return self.how != "meaning"


def normalize_skill(name: str) -> str:
    """A skill's name without differences of case, accents, hyphens and spacing."""
    text = unicodedata.normalize("NFKD", name).casefold()
    text = "".join(c for c in text if not unicodedata.combining(c))
    return re.sub(r"[\s_-]+", " ", text).strip()


class Matcher:
    """Finds required skills among those people have.

    Args:
        similarity: The cosine from which two names mean the same.
        vectors: Name → embedding, for the names that may match by meaning.
        synonyms: Groups of names that mean the same.
    """

    def __init__(
        self,
        similarity: float = 0.6,
        vectors: Mapping[str, ArrayLike] | None = None,
        synonyms: Iterable[frozenset[str]] = SYNONYMS,
    ) -> None:
        self.similarity = similarity
        self._group = {
            normalize_skill(name): n for n, group in enumerate(synonyms) for name in group
        }
        self._vectors = {
            normalize_skill(name): _unit(vector) for name, vector in (vectors or {}).items()
        }
        self._compared: dict[str, dict[str, Match | None]] = {}

    def best(self, required: str, skills: Mapping[str, float]) -> Match | None:
        """The skill that answers a required one best.

        Args:
            required: The required skill.
            skills: Somebody's skills, name → level.

        Returns:
            One that is the same skill before one that is only near in meaning, then the
            nearest, then that of the highest level; None when none matches.
        """
        best: Match | None = None
        compared = self._compared.setdefault(required, {})
        for name in skills:
            if name not in compared:
                compared[name] = self._compare(required, name)
            match = compared[name]
            if match is not None and (best is None or _rank(match, skills) > _rank(best, skills)):
                best = match
        return best

    def _compare(self, required: str, found: str) -> Match | None:
        a, b = normalize_skill(required), normalize_skill(found)
        if a == b:
            return Match(required, found, "exact", 1.0)
        if a in self._group and self._group[a] == self._group.get(b):
            return Match(required, found, "synonym", 1.0)
        if a in self._vectors and b in self._vectors:
            cosine = float(self._vectors[a] @ self._vectors[b])
            if cosine >= self.similarity:
                return Match(required, found, "meaning", min(1.0, cosine))
        return None


def _rank(match: Match, skills: Mapping[str, float]) -> tuple[bool, float, float]:
    return match.is_same, match.similarity, skills[match.found]


def _unit(vector: ArrayLike) -> NDArray[np.float64]:
    """The vector at length 1; all zeros stay zeros."""
    values = np.asarray(vector, dtype=np.float64)
    return values / max(float(np.linalg.norm(values)), 1e-12)
