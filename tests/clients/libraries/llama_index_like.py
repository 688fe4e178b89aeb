"""llama-index's OpenAILike: answers, and functions of a chat."""

from common import BASE, KEY, tell
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


options = {"model": "default", "api_base": BASE, "api_key": KEY, "is_chat_model": True, "context_window": 32768}
llm = OpenAILike(**options, is_function_calling_model=True)
hi = [ChatMessage(role="user", content="hi")]
found = {
    "text": llm.chat(hi).message.content,
    "stream": "".join(part.delta or "" for part in llm.stream_chat(hi)),
}
tools = [FunctionTool.from_defaults(add)]
answer = llm.chat_with_tools(tools, "add")
found["call"] = [call.tool_kwargs for call in llm.get_tool_calls_from_response(answer)]
tell(**found)
