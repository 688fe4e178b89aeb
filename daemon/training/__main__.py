"""`python -m training`: tokenizer, train, export, evaluate, or all of them. See README.md beside this file."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from training.trainer import Plan

EXPLAIN = {
    "base": "an exported folder to go on from instead of starting fresh (the tokenizer must be its own)",
    "begin": "where in the schedule to begin, 0 to 1 (0.7 with a trained base)",
    "steps": "steps of the schedule",
    "deadline": "minutes; the schedule follows the clock instead of the steps (not reproducible to the bit)",
    "batch_tokens": "tokens of a micro-batch of one worker",
    "growth": "micro-batches a step in the last fifth of the run",
    "device": "cpu, or cuda (one process; raise --batch-tokens)",
    "bfloat16": "matrix products in bfloat16: several times faster with AMX or AVX-512, slower without",
    "compile": "compile the layers first (needs a C++ compiler on a CPU)",
    "workers": "processes on the CPU, one thread each",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("tokenizer", "train the tokenizer"),
        ("train", "train, or continue, the model"),
        ("export", "write the model folder and its GGUF"),
        ("gguf", "write a model folder's GGUF again"),
        ("evaluate", "ask held-out questions"),
        ("all", "tokenizer, train, export, evaluate"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument(
            "--out",
            type=Path,
            required=name not in ("evaluate", "gguf"),
            help="working folder (checkpoint, log, model)",
        )
        if name in ("train", "all"):
            for field in fields(Plan):
                flag = "--" + field.name.replace("_", "-")
                kind: dict[str, Any] = {"type": type(field.default)}
                if isinstance(field.default, bool):
                    kind = {"action": argparse.BooleanOptionalAction}
                command.add_argument(flag, **kind, default=field.default, help=EXPLAIN.get(field.name))
        if name in ("export", "all"):
            command.add_argument("--to", type=Path, help="model folder (default: OUT/model)")
        if name == "gguf":
            command.add_argument("--model", type=Path, help="model folder (default: the shipped weights)")
            command.add_argument("--to", type=Path, help="file (default: the bundled model)")
        if name in ("evaluate", "all"):
            command.add_argument("--share", type=float, default=1.0, help="share of the 380 questions to ask")
            command.add_argument("--eval-seed", type=int, default=2026)
            command.add_argument("--kinds", default="", help="comma-separated kinds; all by default")
            command.add_argument("--model", type=Path, help="model folder (default: OUT/model)")
            command.add_argument(
                "--daemon", default="", help="base URL of a daemon to ask instead, e.g. http://127.0.0.1:8080/v1"
            )
            command.add_argument("--json", type=Path, help="also write the figures here")
    return parser


def _evaluate(args: argparse.Namespace) -> None:
    from training.evaluate import Backend, Local, default_counts, evaluate

    if args.daemon:
        from training.daemon_eval import Daemon

        backend: Backend = Daemon(args.daemon)
    else:
        folder = args.model or (args.out and args.out / "model")
        if not folder:
            raise SystemExit("evaluate: give --daemon URL, --model FOLDER or --out FOLDER")
        backend = Local(folder)
    counts = default_counts(args.share)
    if args.kinds:
        counts = {kind: counts[kind] for kind in args.kinds.split(",")}
    figures = evaluate(backend, counts, args.eval_seed)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    args = _parser().parse_args()
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    if args.command in ("tokenizer", "all") and not (args.command == "all" and (args.out / "tokenizer.json").exists()):
        from training.tokenizer import train_tokenizer

        train_tokenizer(args.out / "tokenizer.json")
    if args.command in ("train", "all"):
        from training.trainer import train

        train(Plan(**{field.name: getattr(args, field.name) for field in fields(Plan)}), args.out)
    if args.command in ("export", "all"):
        from training.export import export

        export(args.out, args.to or args.out / "model")
    if args.command == "gguf":
        from training.export import NAME, PACKAGE, WEIGHTS, pack

        pack(args.model or WEIGHTS, args.to or PACKAGE / f"{NAME}.gguf")
    if args.command == "all" and not args.model:
        args.model = args.to or args.out / "model"
    if args.command in ("evaluate", "all"):
        _evaluate(args)


if __name__ == "__main__":
    main()
