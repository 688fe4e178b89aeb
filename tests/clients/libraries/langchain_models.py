"""ChatOpenAI over both of OpenAI's APIs, and ChatAnthropic."""

import sys

from common import BASE, DATA_URL, KEY, PNG, ROOT, tell
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def text(message):
    content = message.content
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def sums(model, asked):
    history = [HumanMessage(asked)]
    answer = model.bind_tools([add]).invoke(history)
    outputs = [ToolMessage(str(add.invoke(call["args"])), tool_call_id=call["id"]) for call in answer.tool_calls]
    return text(model.bind_tools([add]).invoke([*history, answer, *outputs]))


def streamed_sum(model):
    whole = None
    for chunk in model.bind_tools([add]).stream("add"):
        whole = chunk if whole is None else whole + chunk
    return [call["args"] for call in whole.tool_calls]


if sys.argv[1] == "anthropic":
    from langchain_anthropic import ChatAnthropic

    model = ChatAnthropic(model="claude-sonnet-4-5", base_url=ROOT, api_key=KEY, max_tokens=200)
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
else:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="default", base_url=BASE, api_key=KEY, use_responses_api=sys.argv[1] == "responses")
    image = {"type": "image_url", "image_url": {"url": DATA_URL}}
tell(
    text=text(model.invoke("hi")),
    stream="".join(text(chunk) for chunk in model.stream("hi")),
    one=sums(model, "add"),
    both=sums(model, "both"),
    call=streamed_sum(model),
    person=model.with_structured_output(Person).invoke("who?").model_dump(),
    image=text(model.invoke([HumanMessage([{"type": "text", "text": "what?"}, image])])),
)
