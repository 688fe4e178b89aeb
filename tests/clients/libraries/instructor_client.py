"""instructor: answers as pydantic models, by a tool, by a JSON schema, in pieces."""

import instructor
from common import BASE, KEY, tell
from openai import OpenAI
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


ask = {"model": "default", "messages": [{"role": "user", "content": "who?"}], "response_model": Person}
found = {}
modes = {
    "by a tool": instructor.Mode.TOOLS,
    "by a schema": instructor.Mode.JSON_SCHEMA,
    "by a strict tool": instructor.Mode.TOOLS_STRICT,
}
for key, mode in modes.items():
    client = instructor.from_openai(OpenAI(base_url=BASE, api_key=KEY), mode=mode)
    found[key] = client.chat.completions.create(**ask, max_retries=0).model_dump()
client = instructor.from_openai(OpenAI(base_url=BASE, api_key=KEY))
for partial in client.chat.completions.create_partial(**ask, max_retries=0):
    found["in pieces"] = partial.model_dump()
tell(**found)
