"""Sphinx's settings. `make site` copies the pages to .site/pages first: see docs/_ext."""

import unitrain

project = "unitrain"
author = "The unitrain maintainers"
project_copyright = "The unitrain maintainers"
version = release = unitrain.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "index"
exclude_patterns = ["_files"]
myst_heading_anchors = 4  # as deep as the links of the pages go

# Docstrings are Google's, with ``code`` in them; `code` is written in some, as in Markdown.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Options", "params_style"), ("Attributes", "params_style")]  # lists, not an entry each
napoleon_use_admonition_for_examples = False

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # else each callback repeats the text about each handler
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"  # it uses the fonts of the system
html_title = f"unitrain {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "default"
pygments_dark_style = "github-dark"
