"""Whole-loop evaluation on held-out questions, with real scripts run by bash.

A question counts only when every command was exact and the answer is exact. Two backends: `Local` runs the exported
folder in this process, with the shipped template and greedy decoding (fast, for choosing a checkpoint);
`daemon_eval.Daemon` goes through a running daemon over HTTP, with skills uploaded and containers created.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import jinja2
import torch
from tokenizers import Tokenizer

from training.export import TEMPLATE
from training.questions import DEGRADED, KINDS, Ask, HeldSkill, Question, question
from training.render import Message, shell_call, system_message, tool_result

MAX_TURNS = 5


class Tree:
    """A temporary folder that stands for /mnt, and bash in it."""

    def __init__(self, skills: Sequence[HeldSkill], files: dict[str, str]) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="tiny-eval-"))
        (self.root / "data").mkdir()
        (self.root / "skills").mkdir()
        for skill in skills:
            for path, text in skill.files.items():
                target = self.root / "skills" / skill.name / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
        for name, text in files.items():
            (self.root / "data" / name).write_text(text, encoding="utf-8")

    def run(self, command: str) -> str:
        """The text of the tool message for `command`, as the daemon words it."""
        done = subprocess.run(
            ["bash", "-c", command.replace("/mnt/", f"{self.root}/")],
            capture_output=True,
            text=True,
            timeout=20,
            cwd=self.root / "data",
            stdin=subprocess.DEVNULL,
        )
        out, err = (text.replace(f"{self.root}/", "/mnt/").rstrip("\n") for text in (done.stdout, done.stderr))
        lines = [f"exit code: {done.returncode}"] if done.returncode else []
        lines += [out] if out else []
        lines += [f"stderr:\n{err}"] if err else []
        return "\n".join(lines) or "(no output)"

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def expected(tree: Tree, ask: Ask) -> tuple[list[str], str]:
    """(commands, answer) of a correct run."""
    if ask.skill is None:
        return [], ask.answer or ""
    commands = [f"cat /mnt/skills/{ask.skill.name}/SKILL.md"]
    shown = ""
    for line in ask.skill.lines(ask.file):
        commands.append(line)
        shown = tree.run(line)
        if shown.startswith("exit code: "):
            lines = shown.split("\n")
            return commands, f"The command failed ({lines[0].replace('exit code: ', 'exit code ')}): {lines[-1]}"
    return commands, "Result:\n" + shown.split("\nstderr:\n")[0]


class Backend(Protocol):
    def play(self, q: Question, tree: Tree) -> list[tuple[list[str], str]]:
        """For each request of `q`: the commands (or function calls, as JSON) that were run, and the answer."""


class Local:
    """The exported folder in this process."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(1)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model.train(False)
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        self.template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
        self.tokens, self.seconds = 0, 0.0

    def reply(self, messages: list[Message], functions: list[dict[str, Any]], marking: bool) -> str:
        tools = [{"type": "function", "function": function} for function in functions]
        prompt = self.template.render(messages=messages, tools=tools, add_generation_prompt=True)
        if not marking:  # undo what the template did to the user's text
            for role, text in ((m["role"], m["content"]) for m in messages):
                if role == "user":
                    head, rest = prompt.split("<|im_start|>user\n", 1)
                    prompt = head + "<|im_start|>user\n" + text + "<|im_end|>" + rest.split("<|im_end|>", 1)[1]
        ids = self.tokenizer.encode(prompt, add_special_tokens=False).ids
        begun = time.monotonic()
        with torch.inference_mode():
            output = self.model.generate(
                torch.tensor([ids]), max_new_tokens=400, do_sample=False, pad_token_id=2, eos_token_id=2
            )
        self.seconds += time.monotonic() - begun
        self.tokens += output.shape[1] - len(ids)
        return self.tokenizer.decode(output[0, len(ids) :].tolist())

    def play(self, q: Question, tree: Tree) -> list[tuple[list[str], str]]:
        catalogue = [(skill.name, skill.description) for skill in q.skills]
        messages = system_message(catalogue, list(q.files), "Use a skill when one fits the request.")
        played: list[tuple[list[str], str]] = []
        for ask in q.asks:
            messages.append({"role": "user", "content": ask.text})
            commands: list[str] = []
            answer = "(no answer)"
            for _ in range(MAX_TURNS):
                text = self.reply(messages, q.functions, q.marking)
                call = _parse(text)
                if call is None:
                    answer = text
                    messages.append({"role": "assistant", "content": text})
                    break
                if call["name"] == "shell":
                    command = str((call["arguments"].get("commands") or [""])[0])
                    commands.append(command)
                    messages += [shell_call(command), tool_result(tree.run(command))]
                else:
                    commands.append(json.dumps(call, ensure_ascii=False, sort_keys=True))
                    function = {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)}
                    said = {
                        "role": "assistant",
                        "content": "",
                        "tool_calls": [{"id": "c", "type": "function", "function": function}],
                    }
                    messages += [said, tool_result(ask.result or "")]
            played.append((commands, answer))
        return played


def _parse(text: str) -> dict[str, Any] | None:
    if "<tool_call>" not in text:
        return None
    try:
        call = json.loads(text.split("<tool_call>", 1)[1].split("</tool_call>", 1)[0])
    except ValueError:
        return None
    return call if isinstance(call, dict) and isinstance(call.get("arguments"), dict) and "name" in call else None


def judge(q: Question, backend: Backend) -> tuple[bool, str]:
    """(right, what went wrong) for one question."""
    tree, reference = Tree(q.skills, q.files), Tree(q.skills, q.files)
    try:
        played = backend.play(q, tree)
        for ask, (commands, answer) in zip(q.asks, played, strict=True):
            wanted, said = expected(reference, ask)
            if ask.call is not None:
                call = {"name": ask.call["name"], "arguments": json.loads(ask.call["arguments"])}
                wanted = [json.dumps(call, ensure_ascii=False, sort_keys=True)]
            for turn, (got, want) in enumerate(zip([*commands, ""], [*wanted, ""], strict=False), 1):
                if got != want:
                    return False, f"turn {turn} | {ask.text!r} | want {want!r} | got {got or answer!r}"
            if len(commands) != len(wanted) or answer.strip() != said.strip():
                return False, f"answer | {ask.text!r} | want {said!r} | got {answer!r}"
        return True, ""
    finally:
        tree.close()
        reference.close()


def evaluate(backend: Backend, counts: dict[str, int], seed: int, show: bool = True) -> dict[str, tuple[int, int]]:
    """Right and asked questions for each kind, also printing each failure."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for kind, count in counts.items():
        for i in range(count):
            rng = random.Random(f"{seed}/{kind}/{i}")
            q = question(rng, kind)
            right, why = judge(q, backend)
            totals[kind][0] += right
            totals[kind][1] += 1
            if show and not right:
                print(f"  {kind} {i + 1}/{count} ({len(q.skills)} skills) {why[:600]}", flush=True)
        print(f"{kind}: {totals[kind][0]}/{totals[kind][1]}", flush=True)
    return {kind: (right, asked) for kind, (right, asked) in totals.items()}


def default_counts(share: float = 1.0) -> dict[str, int]:
    """Questions of each kind: 280 of the contract, 100 of its edges."""
    contract = {"name": 60, "need": 60, "steps": 40, "failure": 40, "function": 40, "follow": 20, "plain": 20}
    assert set(contract) == set(KINDS)
    counts = contract | dict.fromkeys(DEGRADED, 20)
    return {kind: max(1, round(count * share)) for kind, count in counts.items()}
