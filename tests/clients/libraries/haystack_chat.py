"""haystack's OpenAIChatGenerator, its Responses sibling, and an agent."""

from common import BASE, KEY, NUMBERS, tell
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool
from haystack.utils import Secret

options = {"model": "default", "api_base_url": BASE, "api_key": Secret.from_token(KEY)}
pieces = []
generator = OpenAIChatGenerator(**options)
hi = [ChatMessage.from_user("hi")]
found = {"text": generator.run(hi)["replies"][0].text}
OpenAIChatGenerator(**options, streaming_callback=lambda chunk: pieces.append(chunk.content)).run(hi)
found["stream"] = "".join(pieces)
add = Tool("add", "Add two numbers.", NUMBERS, lambda a, b: a + b)
for key, asked in (("one", "add"), ("both", "both")):
    agent = Agent(chat_generator=OpenAIChatGenerator(**options), tools=[add])
    found[key] = agent.run(messages=[ChatMessage.from_user(asked)])["messages"][-1].text
tell(**found)
