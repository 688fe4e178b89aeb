"""The packages that the base of the sandbox usually holds, and the command that builds it.

Here and not in the daemon, since `skilldeck lint` says without one what a skill's scripts will not find.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

MINIMAL = (
    "pypdf",
    "pdfplumber",
    "pdf2image",
    "reportlab",
    "openpyxl",
    "python-docx",
    "python-pptx",
    "pillow",
    "requests",
    "lxml",
    "defusedxml",
    "pyyaml",
    "beautifulsoup4",
    "jinja2",
)
FULL = (*MINIMAL, "pandas", "numpy", "matplotlib", "markitdown[docx,pdf,pptx,xlsx]", "uv")
BROUGHT = ("certifi", "charset-normalizer", "cryptography", "markupsafe", "pdfminer", "python-dateutil", "urllib3")
"""What those of FULL need themselves, as scripts import it."""
NODE = ("docx", "pptxgenjs", "pdf-lib", "marked")
NPM_MARK = "npm:"
"""Before the name of a package for Node."""

BUILD = "skilldeckd sandbox build"

DISTRIBUTIONS: Mapping[str, str] = MappingProxyType(
    {
        "Bio": "biopython",
        "Crypto": "pycryptodome",
        "Levenshtein": "levenshtein",
        "MySQLdb": "mysqlclient",
        "OpenSSL": "pyopenssl",
        "PIL": "pillow",
        "attr": "attrs",
        "barcode": "python-barcode",
        "bs4": "beautifulsoup4",
        "cv2": "opencv-python-headless",
        "dateutil": "python-dateutil",
        "discord": "discord.py",
        "docx": "python-docx",
        "dotenv": "python-dotenv",
        "faiss": "faiss-cpu",
        "ffmpeg": "ffmpeg-python",
        "fitz": "pymupdf",
        "fpdf": "fpdf2",
        "frontmatter": "python-frontmatter",
        "git": "gitpython",
        "googleapiclient": "google-api-python-client",
        "igraph": "python-igraph",
        "jose": "python-jose",
        "jwt": "pyjwt",
        "magic": "python-magic",
        "mpl_toolkits": "matplotlib",
        "nacl": "pynacl",
        "odf": "odfpy",
        "pptx": "python-pptx",
        "psycopg2": "psycopg2-binary",
        "ruamel": "ruamel.yaml",
        "serial": "pyserial",
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
        "slugify": "python-slugify",
        "tabula": "tabula-py",
        "tdc": "pytdc",
        "telegram": "python-telegram-bot",
        "umap": "umap-learn",
        "usb": "pyusb",
        "websocket": "websocket-client",
        "yaml": "pyyaml",
        "zmq": "pyzmq",
    }
)
"""What brings a module, where that has another name."""

_KNOWN = """
altair anndata anthropic arviz astropy biopython chardet click cvxpy dask docxtpl duckdb feedparser folium fpdf2
geopandas gitpython h5py httpx imageio ipywidgets jsonschema lifelines litellm networkx nltk odfpy openai
opencv-python-headless pandera plotly polars psutil pyarrow pycryptodome pydantic pydicom pyjwt pymatgen pymc pymoo
pymupdf pyperclip pytesseract python-dotenv python-frontmatter python-slugify pyzbar qrcode rapidfuzz rdkit rich
scanpy scikit-image scikit-learn scipy seaborn shapely simpy sqlalchemy statsmodels svgwrite sympy tabulate tiktoken
toml tqdm typer umap-learn websockets wordcloud xarray xlrd xlsxwriter xmltodict yfinance zarr
"""
KNOWN = frozenset(_KNOWN.split())
"""Well-kept packages of the index whose module is what programs that import it mean: no other package is guessed by the
name of a module, since anybody may have taken that name. None of them needs gigabytes."""


def known_modules() -> list[str]:
    """What those of FULL are imported as, in their order."""
    modules = {brings: module for module, brings in DISTRIBUTIONS.items()} | {"matplotlib": "matplotlib"}
    names = [name.partition("[")[0] for name in FULL]
    return [modules.get(name, name) for name in names]


def distribution(module: str) -> str:
    """The package that brings a module."""
    return DISTRIBUTIONS.get(module, module)


def usual(package: str) -> bool:
    """Whether a base that was built without further wishes holds this package for Python."""
    return package in {name.partition("[")[0] for name in FULL} or package.replace("_", "-") in BROUGHT


def bring(package: str) -> str:
    """What brings a package into the base."""
    return f"run {BUILD}" if usual(package) else f"run {BUILD} --with {package}"
