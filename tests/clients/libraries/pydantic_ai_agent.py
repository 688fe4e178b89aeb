"""pydantic-ai's agents over Chat Completions, Responses and Messages."""

import asyncio
import base64
import sys

from common import BASE, KEY, PNG, ROOT, tell
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent


class Person(BaseModel):
    name: str
    age: int


def model():
    if sys.argv[1] == "anthropic":
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        return AnthropicModel("claude-sonnet-4-5", provider=AnthropicProvider(base_url=ROOT, api_key=KEY))
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    kind = OpenAIResponsesModel if sys.argv[1] == "responses" else OpenAIChatModel
    return kind("default", provider=OpenAIProvider(base_url=BASE, api_key=KEY))


async def main():
    plain = Agent(model())
    adding = Agent(model())

    @adding.tool_plain
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    async with plain.run_stream("hi") as result:
        stream = "".join([piece async for piece in result.stream_text(delta=True)])
    tell(
        text=(await plain.run("hi")).output,
        stream=stream,
        one=(await adding.run("add")).output,
        both=(await adding.run("both")).output,
        person=(await Agent(model(), output_type=Person).run("who?")).output.model_dump(),
        image=(await plain.run(["what?", BinaryContent(data=base64.b64decode(PNG), media_type="image/png")])).output,
    )


asyncio.run(main())
