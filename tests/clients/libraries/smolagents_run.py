"""smolagents: the model by itself, and an agent that calls tools and ends by one."""

from common import BASE, KEY, tell
from smolagents import OpenAIServerModel, ToolCallingAgent, tool

model = OpenAIServerModel("default", api_base=BASE, api_key=KEY)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: one
        b: other
    """
    return a + b


hi = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
pieces = [delta.content or "" for delta in model.generate_stream(hi)]
found = {"text": model.generate(hi).content, "stream": "".join(pieces)}
for key, streams in (("agent", False), ("agent stream", True)):
    agent = ToolCallingAgent([add], model=model, max_steps=3, verbosity_level=0, stream_outputs=streams)
    found[key] = agent.run("add")
tell(**found)
