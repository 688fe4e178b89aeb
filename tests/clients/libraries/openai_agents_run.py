"""openai-agents (Python) over Responses and Chat Completions, with a handoff."""

import asyncio
import sys

from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from common import BASE, DATA_URL, KEY, tell
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)


class Person(BaseModel):
    name: str
    age: int


@function_tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def main():
    kind = OpenAIResponsesModel if sys.argv[1] == "responses" else OpenAIChatCompletionsModel
    model = kind(model="default", openai_client=AsyncOpenAI(base_url=BASE, api_key=KEY))
    plain, adding = Agent(name="a", model=model), Agent(name="b", model=model, tools=[add])
    result = Runner.run_streamed(plain, "hi")
    pieces = [
        event.data.delta
        async for event in result.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    content = [
        {"type": "input_text", "text": "what?"},
        {"type": "input_image", "detail": "auto", "image_url": DATA_URL},
    ]
    tell(
        text=(await Runner.run(plain, "hi")).final_output,
        stream="".join(pieces),
        one=(await Runner.run(adding, "add")).final_output,
        both=(await Runner.run(adding, "both")).final_output,
        person=(await Runner.run(Agent(name="c", model=model, output_type=Person), "who?")).final_output.model_dump(),
        image=(await Runner.run(plain, [{"role": "user", "content": content}])).final_output,
    )


asyncio.run(main())
