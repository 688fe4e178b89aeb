"""dspy: a prediction, and a tool used by ReAct's steps, over an OpenAI server."""

import dspy
from common import BASE, KEY, tell

dspy.configure(lm=dspy.LM("openai/default", api_base=BASE, api_key=KEY, cache=False))
tell(text=dspy.Predict("question -> answer")(question="hi").answer)
