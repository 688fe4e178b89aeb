"""autogen's client of OpenAI-like servers, and an agent with a tool."""

import asyncio
import json

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from common import BASE, KEY, tell
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def main():
    info = {
        "vision": True,
        "function_calling": True,
        "json_output": True,
        "structured_output": True,
        "family": "unknown",
    }
    client = OpenAIChatCompletionClient(model="default", base_url=BASE, api_key=KEY, model_info=info)
    hi = [UserMessage(content="hi", source="user")]
    pieces = [piece async for piece in client.create_stream(hi) if isinstance(piece, str)]
    found = {"text": (await client.create(hi)).content, "stream": "".join(pieces)}
    found["person"] = json.loads((await client.create(hi, json_output=Person)).content)
    for key, asked in (("one", "add"), ("both", "both")):
        agent = AssistantAgent("a", client, tools=[add], reflect_on_tool_use=True)
        found[key] = (await agent.run(task=asked)).messages[-1].content
    tell(**found)


asyncio.run(main())
