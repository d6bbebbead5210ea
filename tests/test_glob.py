"""Globs: within a part of a path, and across."""

import pytest

from anabranch._glob import matcher
from anabranch.errors import ConfigurationError

TABLE = [
    ("a", ["a"], ["b", "aa", "A", "a/b", ""]),
    ("low_*", ["low_", "low_1", "low_x.y"], ["low", "low_1/x", "high_low_1"]),
    ("*", ["a", "", "a b", "a\nb"], ["a/b"]),
    ("**", ["a", "a/b", "a/b/c", ""], []),
    ("**/c", ["a/c", "a/b/c"], ["c/a"]),
    ("a/*/c", ["a/b/c", "a//c"], ["a/b/b/c", "a/c"]),
    ("?", ["a", "é"], ["", "ab", "/"]),
    ("[ab]x", ["ax", "bx"], ["cx", "x"]),
    ("[!ab]x", ["cx"], ["ax", "bx"]),
    ("[a-c]", ["b"], ["d", "-"]),
    ("a.b", ["a.b"], ["axb"]),
    ("a+(b)$", ["a+(b)$"], ["aab"]),
    ("[", ["["], ["a"]),
    ("[]", ["[]"], [""]),
    ("[^a]", ["^", "a"], ["b"]),
    ("[!a]", ["b"], ["a"]),
    ("***", ["a", "a/b"], []),
    ("[z-a]", [], ["z", "m"]),
]


@pytest.mark.parametrize(("glob", "yes", "no"), TABLE, ids=[row[0] for row in TABLE])
def test_a_glob_matches_what_it_should_and_nothing_else(glob, yes, no):
    matches = matcher(glob)
    assert [path for path in yes if not matches(path)] == []
    assert [path for path in no if matches(path)] == []


def test_a_negated_set_does_not_cross_a_slash():
    assert not matcher("a[!b]c")("a/c")


def test_a_predicate_stands_for_itself():
    assert matcher(str.isupper)("A")
    assert not matcher(str.isupper)("a")


@pytest.mark.parametrize("which", ["", None, 3, b"a", ["a"]])
def test_what_chooses_nothing_is_refused(which):
    with pytest.raises(ConfigurationError, match="chooses no branch"):
        matcher(which)
