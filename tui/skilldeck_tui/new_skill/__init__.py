"""`skilldeck new`: a skill from a template, with tests that the bundled model passes.

A template is a folder below `templates/`; `{{name}}`, `{{title}}` and `{{description}}` in its texts are replaced. A
new one is a folder with its line in `make.TEMPLATES`. `tests/tui/test_new_skill.py` runs each on the bundled model.
"""
