"""Programs that skills ask for beside their packages: what brings them, and a line where a command failed for one.

Containers see the host's /usr, so whoever runs the daemon installs them.
"""

from __future__ import annotations

import re
import shutil

from skilldeck_daemon.containers.sandbox.bwrap import SYSTEM_PATH, install_hint

PACKAGES = {
    "soffice": "libreoffice",
    "pandoc": "pandoc",
    "pdftotext": "poppler-utils",
    "qpdf": "qpdf",
    "ffmpeg": "ffmpeg",
    "git": "git",
    "gh": "gh",
    "node": "nodejs",
    "npm": "npm",
}
"""Those that published skills ask for most. uv comes with the base."""
MORE = {
    "libreoffice": "libreoffice",
    "pdfinfo": "poppler-utils",
    "pdftoppm": "poppler-utils",
    "pdfimages": "poppler-utils",
    "tesseract": "tesseract-ocr",
    "convert": "imagemagick",
    "magick": "imagemagick",
    "dot": "graphviz",
    "jq": "jq",
    "pdflatex": "texlive-latex-base",
    "xelatex": "texlive-xetex",
}
_LOOKED_AT = 20_000
"""Characters of an output, from its end."""


def missing(text: str) -> str:
    """A line on the programs that were not found, by what shells, Python and Node print then; "" for none.

    Args:
        text: what a failed command wrote.
    """
    known = PACKAGES | MORE
    names = "|".join(known)
    lines = re.findall(
        rf"No such file or directory: ['\"]({names})['\"]|(?:^|: |/)({names}): (?:command )?not found|"
        rf"env: ['‘]?({names})['’]?: No such file|spawn ({names}) ENOENT",
        text[-_LOOKED_AT:],
        re.MULTILINE,
    )
    found = dict.fromkeys(name for groups in lines for name in groups if name)
    gone = [name for name in found if shutil.which(name, path=SYSTEM_PATH) is None]
    if not gone:
        return ""
    packages = " ".join(dict.fromkeys(known[name] for name in gone))
    said_of = "is not here" if len(gone) == 1 else "are not here"
    return f"{', '.join(gone)} {said_of}; whoever runs the daemon can bring that: {install_hint(packages)}"
