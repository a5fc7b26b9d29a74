"""No two things of a tenant share a key in Redis."""

from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.stores.online import address
from shoal_features import keys

WINDOW = ["times", "columns", "tiles", "ahead"]
names = st.sampled_from(
    ["registry", "status", "values", "late_events", "columns", "a", "a:b", "{}", "1"]
) | st.text(st.characters(codec="utf-8"), min_size=1)
things = (
    st.tuples(st.just("document"), st.sampled_from([n for n in vars(keys) if n.isupper()]))
    | st.tuples(st.sampled_from(["values"]), names, names)
    | st.tuples(st.sampled_from(WINDOW), names, names, names)
    | st.tuples(st.just("latest"), names, names, names, names)
    | st.tuples(st.sampled_from(["late_events", "future_events"]), names)
)


def key_of(kind: str, *parts: str) -> tuple[str, ...]:
    if kind == "latest":
        return keys.window(*parts[:3], parts[3:])[-1]
    if kind in WINDOW:
        return keys.window(*parts)[WINDOW.index(kind)]
    return getattr(keys, *parts) if kind == "document" else getattr(keys, kind)(*parts)


@settings(max_examples=300)
@given(things, things)
def test_different_things_have_different_keys(one: tuple[str, ...], other: tuple[str, ...]):
    keys_of = [address("acme:features", key_of(*thing)) for thing in (one, other)]
    assert one == other or keys_of[0] != keys_of[1]
