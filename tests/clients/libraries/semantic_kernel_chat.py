"""semantic-kernel's OpenAI connector, with functions it calls itself."""

import asyncio

from common import BASE, KEY, tell
from openai import AsyncOpenAI
from semantic_kernel import Kernel
from semantic_kernel.connectors.ai.function_choice_behavior import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.contents import ChatHistory
from semantic_kernel.functions import kernel_function


class Numbers:
    @kernel_function(description="Add two numbers.")
    def add(self, a: int, b: int) -> int:
        return a + b


async def main():
    kernel = Kernel()
    service = OpenAIChatCompletion(ai_model_id="default", async_client=AsyncOpenAI(base_url=BASE, api_key=KEY))
    kernel.add_service(service)
    kernel.add_plugin(Numbers(), "numbers")

    async def ask(text, **more):
        history = ChatHistory()
        history.add_user_message(text)
        settings = OpenAIChatPromptExecutionSettings(**more)
        return str(await service.get_chat_message_content(history, settings, kernel=kernel))

    history = ChatHistory()
    history.add_user_message("hi")
    settings = OpenAIChatPromptExecutionSettings()
    pieces = [str(piece) async for piece in service.get_streaming_chat_message_content(history, settings)]
    auto = FunctionChoiceBehavior.Auto()
    tell(
        text=await ask("hi"),
        stream="".join(pieces),
        one=await ask("add", function_choice_behavior=auto),
        both=await ask("both", function_choice_behavior=auto),
    )


asyncio.run(main())
