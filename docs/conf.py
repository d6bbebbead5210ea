"""Build the documents: Sphinx reads this; `scripts/docs.py` calls it.

The pages are Markdown, which is read in the repository too; the reference is made of docstrings.
Nothing is fetched: no inventory of other projects, no font, no script.
"""

from importlib.metadata import version as version_of

from pygments.lexers.python import PythonLexer
from sphinx.application import Sphinx

project = "anabranch"
author = copyright = "the anabranch authors"  # noqa: A001  # Sphinx asks for this name
version = release = version_of("anabranch")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["changes/*"]  # the changelog is made of them
html_theme = "furo"
html_title = f"anabranch {version}"
html_copy_source = False

suppress_warnings = ["myst.header"]  # a fragment of the changelog begins at its own level
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a property that the class tells of is described once

# A reference to a name of ours must lead somewhere; those to others' would need a network,
# and private names stand in signatures where only their meaning is public.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!anabranch\b).*"),
    (r"py:.*", r"anabranch\.(.*\.)?_.*"),
]


def setup(app: Sphinx) -> None:
    """Colour the cells of notebooks as Python."""
    app.add_lexer("ipython", PythonLexer)
