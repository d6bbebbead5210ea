#!/usr/bin/env python3
"""Collect the news: python3 scripts/changelog.py.

docs/changelog.md is made of the fragments docs/changes/NN-topic.md, the newest first.
"""

from pathlib import Path

import _environment

DOCS = _environment.ROOT / "docs"


def collected(fragments: "list[Path]") -> str:
    """Return the changelog that these fragments make."""
    newest_first = sorted(fragments, reverse=True)
    news = [fragment.read_text(encoding="utf-8").strip() for fragment in newest_first]
    return "\n\n".join(["# Changelog", *news]) + "\n"


if __name__ == "__main__":
    _environment.passed_on(__doc__)
    text = collected(list((DOCS / "changes").glob("[0-9]*-*.md")))
    (DOCS / "changelog.md").write_text(text, encoding="utf-8")
