"""What the scripts of this folder share. Each is run by the interpreter of a place where its library is installed:
`python SCRIPT`, with the daemon's URL in BASE; it prints one JSON object of what came back, by what was asked.
"""

import json
import os

BASE = os.environ["BASE"]
ROOT = BASE.removesuffix("/v1")
KEY = "local"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
DATA_URL = f"data:image/png;base64,{PNG}"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
NUMBERS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


def tell(**found: object) -> None:
    print("\n" + json.dumps(found, default=str))
