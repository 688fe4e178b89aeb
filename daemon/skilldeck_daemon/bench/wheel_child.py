"""The PyPI wheel `mistralrs` in a process of its own, which may be of another environment: plain text in, text out.

`python wheel_child.py MODEL` (run as a file; it imports nothing of ours), a folder or a GGUF file. A line of stdin is
{"prompt", "max_tokens"}; the answer is {"text", "seconds", "tokens", "reason", "read", "written"}, greedy; the last two
are tokens a second of the prompt and of the answer, as the wheel itself measures them. The first line it writes is
{"version", "load_s", "resident"} or {"error"}.
"""

import json
import os
import sys
import time
from importlib import metadata
from typing import Any


def resident() -> int:
    with open("/proc/self/status", encoding="utf-8") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


# The wheel writes its log to stdout, which is ours.
ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def say(**fields: Any) -> None:
    print(json.dumps(fields), file=ANSWERS, flush=True)


def main() -> None:
    try:
        import mistralrs  # type: ignore[import-not-found]

        begun = time.perf_counter()
        model = sys.argv[1]
        if model.endswith(".gguf"):
            folder, name = os.path.split(model)
            which = mistralrs.Which.GGUF(quantized_model_id=folder, quantized_filename=name)
        else:
            which = mistralrs.Which.Plain(model_id=model)
        runner = mistralrs.Runner(which=which)
    except Exception as error:
        # A Rust backtrace of forty lines follows the first.
        say(error=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return
    say(version=metadata.version("mistralrs"), load_s=time.perf_counter() - begun, resident=resident())
    for line in sys.stdin:
        asked = json.loads(line)
        request = mistralrs.CompletionRequest(
            prompt=asked["prompt"], model="default", max_tokens=asked["max_tokens"], temperature=0.0
        )
        begun = time.perf_counter()
        answer = runner.send_completion_request(request)
        say(
            seconds=time.perf_counter() - begun,
            text=answer.choices[0].text,
            tokens=answer.usage.completion_tokens,
            reason=answer.choices[0].finish_reason,
            read=answer.usage.avg_prompt_tok_per_sec,
            written=answer.usage.avg_compl_tok_per_sec,
        )


if __name__ == "__main__":
    main()
