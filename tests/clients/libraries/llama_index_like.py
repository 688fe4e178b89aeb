"""llama-index's OpenAILike."""

from common import BASE, KEY, tell
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

options = {"model": "default", "api_base": BASE, "api_key": KEY, "is_chat_model": True, "context_window": 32768}
llm = OpenAILike(**options, is_function_calling_model=True)
hi = [ChatMessage(role="user", content="hi")]
found = {
    "text": llm.chat(hi).message.content,
    "stream": "".join(part.delta or "" for part in llm.stream_chat(hi)),
}
found["completion"] = OpenAILike(**{**options, "is_chat_model": False}).complete("hi").text != ""
tell(**found)
