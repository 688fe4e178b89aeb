"""crewai: its LLM by itself, and a crew of one."""

import os

os.environ |= {"OTEL_SDK_DISABLED": "true", "CREWAI_TRACING_ENABLED": "false", "CREWAI_DISABLE_TELEMETRY": "true"}

from common import BASE, KEY, tell
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool


@tool("add")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def model(**more):
    return LLM(model="openai/default", base_url=BASE, api_key=KEY, **more)


agent = Agent(role="r", goal="g", backstory="b", llm=model(), tools=[add])
task = Task(description="add", expected_output="a sum", agent=agent)
tell(
    text=model().call("hi"),
    stream=model(stream=True).call("hi"),
    one=str(Crew(agents=[agent], tasks=[task]).kickoff()),
)
