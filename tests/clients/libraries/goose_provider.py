"""goose's own clients of OpenAI's and Anthropic's servers, as its program has them, through its SDK."""

import asyncio
import base64
import json
import os
import sys

from common import BASE, KEY, NUMBERS, PNG, ROOT, tell
from goose import (
    MessageContent,
    MessageRole,
    ProviderMessage,
    ProviderModelConfig,
    ProviderTool,
    anthropic_provider,
    openai_provider,
)

TOOLS = [ProviderTool(name="add", description="Add two numbers.", input_schema_json=json.dumps(NUMBERS))]


def user(*content):
    return ProviderMessage(role=MessageRole.USER, content=list(content))


def text(content):
    return "".join(part.text for part in content if isinstance(part, MessageContent.TEXT))


async def main():
    if sys.argv[1] == "anthropic":
        provider, name = anthropic_provider(KEY, ROOT, []), "claude-sonnet-4-5"
    else:
        provider, name = openai_provider(KEY, BASE), "default"
    model = ProviderModelConfig(model_name=name)

    async def ask(messages, tools=()):
        return (await provider.complete(model, "You help.", messages, list(tools))).content

    async def sums(asked):
        history = [user(MessageContent.TEXT(asked))]
        answer = await ask(history, TOOLS)
        calls = [part for part in answer if isinstance(part, MessageContent.TOOL_REQUEST)]
        history.append(ProviderMessage(role=MessageRole.ASSISTANT, content=answer))
        for call in calls:
            given = json.loads(call.arguments_json)
            result = json.dumps([{"type": "text", "text": str(given["a"] + given["b"])}])
            content = [MessageContent.TOOL_RESULT(call.id, True, result)]
            history.append(ProviderMessage(role=MessageRole.TOOL, content=content))
        return text(await ask(history, TOOLS))

    stream = await provider.stream(model, "You help.", [user(MessageContent.TEXT("hi"))], [])
    pieces = []
    while (chunk := await stream.next_chunk()) is not None:
        pieces.append(getattr(chunk, "text", ""))
    image = {}
    if sys.argv[1] == "anthropic":  # to OpenAI's it sends images only for names of models it knows
        shown = user(MessageContent.TEXT("what?"), MessageContent.IMAGE("image/png", base64.b64decode(PNG)))
        image["image"] = text(await ask([shown]))
    tell(
        text=text(await ask([user(MessageContent.TEXT("hi"))])),
        stream="".join(pieces),
        one=await sums("add"),
        both=await sums("both"),
        **image,
    )


asyncio.run(main())
# Its threads may abort the interpreter while that ends.
sys.stdout.flush()
os._exit(0)
