"""litellm as a client of Chat Completions, Responses and Messages."""

import json
import sys

import litellm
from common import BASE, DATA_URL, KEY, NUMBERS, ROOT, SCHEMA, tell

litellm.suppress_debug_info = True
anthropic = sys.argv[1] == "anthropic"
options = {
    "model": "anthropic/claude-sonnet-4-5" if anthropic else "openai/default",
    "api_base": ROOT if anthropic else BASE,
    "api_key": KEY,
}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Add", "parameters": NUMBERS}}]


def ask(text, **more):
    return litellm.completion(messages=[{"role": "user", "content": text}], **options, **more)


def sums(asked):
    history = [{"role": "user", "content": asked}]
    answer = litellm.completion(messages=history, tools=TOOLS, **options).choices[0].message
    history.append(answer.model_dump())
    for call in answer.tool_calls:
        given = json.loads(call.function.arguments)
        history.append({"role": "tool", "tool_call_id": call.id, "content": str(given["a"] + given["b"])})
    return litellm.completion(messages=history, tools=TOOLS, **options).choices[0].message.content


shape = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
image = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": DATA_URL}}]
found = {
    "text": ask("hi").choices[0].message.content,
    "stream": "".join(chunk.choices[0].delta.content or "" for chunk in ask("hi", stream=True)),
    "one": sums("add"),
    "both": sums("both"),
    "person": json.loads(ask("who?", response_format=shape).choices[0].message.content),
    "image": ask(image).choices[0].message.content,
}
if not anthropic:
    found["responses"] = litellm.responses(input="hi", **options).output[0].content[0].text
    events = litellm.responses(input="hi", stream=True, **options)
    found["responses stream"] = "".join(event.delta for event in events if "TEXT_DELTA" in str(event.type))
tell(**found)
