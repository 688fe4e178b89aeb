"""llm (Simon Willison's) with a model of extra-openai-models.yaml, as its documentation sets one up."""

import base64
import json
import os
import tempfile
from pathlib import Path

from common import BASE, KEY, PNG, SCHEMA, tell

home = Path(tempfile.mkdtemp())
os.environ["LLM_USER_PATH"] = str(home)
entry = {"model_id": "deck", "model_name": "default", "api_base": BASE, "supports_tools": True}
entry |= {"supports_schema": True, "vision": True}
(home / "extra-openai-models.yaml").write_text(json.dumps([entry]))

import llm  # noqa: E402  its folder is read when it is imported


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


model = llm.get_model("deck")
model.key = KEY
image = llm.Attachment(content=base64.b64decode(PNG), type="image/png")
tell(
    text=model.prompt("hi", stream=False).text(),
    stream="".join(model.prompt("hi")),
    one=model.chain("add", tools=[add]).text(),
    both=model.chain("both", tools=[add]).text(),
    person=json.loads(model.prompt("who?", schema=SCHEMA).text()),
    image=model.prompt("what?", attachments=[image]).text(),
)
