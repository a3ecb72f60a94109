"""JSON objects that arrive in pieces: when they are complete or invalid, and what that costs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfs.errors import InvalidCommand
from artfs.vfs.control import json_documents
from artfs.vfs.control.json_documents import Document, is_whole

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\\\{}[]\n\u00e9', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='a"\\\\{', max_size=3), inner)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=3), VALUES)


@pytest.mark.parametrize("short", [0, 10, 1 << 16])
@given(value=OBJECTS, cuts=st.lists(st.integers(0, 200)), blanks=st.text(alphabet=" \n", max_size=4))
def test_an_object_is_complete_with_its_last_bracket(
    short: int, value: Any, cuts: list[int], blanks: str
) -> None:
    data = (blanks + json.dumps(value, ensure_ascii=False) + blanks).encode()
    end = len(data.rstrip())
    document, at = Document(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_documents, "_SHORT", short)
        for cut in sorted({min(cut, end - 1) for cut in cuts} - {0}):
            assert document.add(data[at:cut]) is None
            at = cut
        assert len(document) == at
        assert document.add(data[at:]) == data


@pytest.mark.parametrize("text", ["[]", "x", " 5", '{"a": }', "{}}", "{'a': 1}", '{"a": \\"'])
def test_text_that_cannot_become_an_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidCommand):
        is_whole(text.encode())
    with pytest.raises(InvalidCommand):
        Document().add(text.encode())


def test_a_long_document_must_begin_as_an_object() -> None:
    document = Document()
    assert document.add(b" " * (1 << 17)) is None
    with pytest.raises(InvalidCommand):
        document.add(b"[")


@pytest.mark.parametrize(
    ("begin", "piece", "end"),
    [
        (b'{"a":[{}', b",{}", b"]}"),
        (b'{"a":"', b'}\\"', b'"}'),
        (b'{"a":"', b"}", b'"}'),
        (b"", b"   ", b"{}"),
        (b'{"a":[""', b',""', b"]}"),
    ],
)
def test_small_pieces_of_a_large_document_are_cheap(begin: bytes, piece: bytes, end: bytes) -> None:
    document = Document()
    document.add(begin)
    for _ in range(10):
        assert document.add(piece * 300_000) is None
    began = time.process_time()
    for _ in range(1000):
        assert document.add(piece) is None
    assert time.process_time() - began < 0.5
    whole = document.add(end)
    assert whole is not None
    assert json.loads(whole) is not None
