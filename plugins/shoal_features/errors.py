"""The errors of the feature store, and how each says where the fault is."""

from collections.abc import Mapping, Sequence

from shoal import Invalid

ErrorEntry = dict[str, str]
"""`{"location": "views.activity.clicks", "message": "…"}`."""


def error_entry(location: str, message: str) -> ErrorEntry:
    return {"location": location, "message": message}


def invalid(location: str, message: str) -> Invalid:
    """A 422 for one part of a request."""
    return Invalid(f"{location}: {message}", errors=[error_entry(location, message)])


class RegistryError(ValueError):
    """Definitions that cannot be registered.

    Attributes:
        errors: Every fault found, as `{"location": …, "message": …}`.
    """

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        super().__init__("; ".join(f"{e['location']}: {e['message']}" for e in errors))
        self.errors = [dict(e) for e in errors]


class UnknownEntity(LookupError):
    """An entity type that no view has."""

    def __init__(self, entity: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown entity type {entity!r}; known types: {', '.join(known) or '-'}")


class UnknownFeature(LookupError):
    """Feature names that no view of the entity type has.

    Attributes:
        nearest: Each unknown name with the most similar known ones, best first.
    """

    def __init__(self, nearest: Mapping[str, Sequence[str]]) -> None:
        self.nearest = {name: list(known) for name, known in nearest.items()}
        super().__init__(
            "; ".join(
                f"unknown feature {name!r}"
                + (f" (did you mean {', '.join(known)}?)" if known else "")
                for name, known in self.nearest.items()
            )
        )
