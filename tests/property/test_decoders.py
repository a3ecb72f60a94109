"""For any bytes a decoder returns a value or raises an error of artfs; the encoding of a value is canonical.

``python -m tests.torture.fuzz`` fuzzes the same property guided by coverage.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.torture.decoders import DECODERS

_DEEP = [b"[" * 100_000, b'{"a":' * 50_000, b"\x91" * 100_000]
_ODD = [
    b"",
    b"\0",
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"NaN",
    b"1e999",
    b'{"a":1e999}',
    b'{"a":"\\ud800"}',
    b"9" * 5000,
]
_ODD += [b"..", b"../../etc/passwd", b"/etc/x", b"a/b", b"n" * 256, b"\xff", b"v" + b"9" * 30, b"v01", *_DEEP]


@st.composite
def mutated(draw: st.DrawFn, examples: tuple[bytes, ...]) -> bytes:
    """A valid encoding after some flips, cuts, insertions, and pieces of another or of itself."""
    data = bytearray(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.integers(at, min(len(data), at + 16)))
        how = draw(st.sampled_from(["flip", "truncate", "insert", "remove", "splice"]))
        if how == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "truncate":
            del data[at:]
        elif how == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif how == "remove":
            del data[at:end]
        elif how == "splice":
            other = draw(st.sampled_from(examples))
            start = draw(st.integers(0, len(other)))
            data[at:end] = other[start : start + 64]
    return bytes(data)


@pytest.mark.parametrize("name", DECODERS)
def test_examples_are_decoded(name: str) -> None:
    decoder = DECODERS[name]
    assert all(map(decoder.once, decoder.examples))
    for data in _ODD:
        decoder.once(data)


@pytest.mark.parametrize("name", DECODERS)
def test_any_bytes_are_decoded_or_refused(name: str) -> None:
    decoder = DECODERS[name]

    @settings(max_examples=100)
    @given(st.one_of(mutated(decoder.examples), mutated(decoder.examples), st.binary(max_size=200)))
    def once(data: bytes) -> None:
        decoder.once(data)

    once()
