"""Lists of aliases and tags as control files accept and show them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfs.errors import InvalidCommand
from artfs.model import words

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(st.lists(TEXTS))
def test_words_round_trip(texts):
    assert words.read_list(" ".join(map(words.word, texts)).encode()) == texts


@given(st.lists(TEXTS))
def test_lines_round_trip(texts):
    assert words.read_lines("".join(f"{words.line(text)}\n" for text in texts).encode()) == texts


@given(TEXTS)
def test_a_word_is_no_option_of_a_command(text):
    assert not words.word(text).startswith("-")
    assert len(words.word(text).encode().split()) == 1


@pytest.mark.parametrize(
    ("command", "texts"),
    [
        (b"", []),
        (b"good fast", ["good", "fast"]),
        (b"  good\tfast ", ["good", "fast"]),
        (b"good\nfast\n", ["good", "fast"]),
        (b"needs review\n", ["needs review"]),  # followed by an empty line: these are lines
        (b"needs%20review good", ["needs review", "good"]),
        (b"needs review\n\n \n good one \n", ["needs review", "good one"]),
        (b"100% 5%25 %zz %2", ["100%", "5%", "%zz", "%2"]),
        ("no\u00a0blank \u5b9f\u9a13\u30003".encode(), ["no\u00a0blank", "\u5b9f\u9a13\u30003"]),
    ],
)
def test_lists_are_parsed(command, texts):
    assert words.read_list(command) == texts


@pytest.mark.parametrize(
    ("text", "word", "line"),
    [
        ("best", "best", "best"),
        ("epoch 3", "epoch%203", "epoch 3"),
        (" x ", "%20x%20", "%20x%20"),
        ("100%", "100%", "100%"),
        ("a%20b", "a%2520b", "a%2520b"),
        ("a\nb", "a%0Ab", "a%0Ab"),
        ("--force", "%2D-force", "--force"),
        ("\u00e9", "\u00e9", "\u00e9"),
    ],
)
def test_words_and_lines_are_spelled_canonically(text, word, line):
    assert (words.word(text), words.line(text)) == (word, line)


@pytest.mark.parametrize("command", [b"\xff", b"a %FF", b"%C3"])
def test_lists_must_be_utf8(command):
    with pytest.raises(InvalidCommand, match="not UTF-8"):
        words.read_list(command)
