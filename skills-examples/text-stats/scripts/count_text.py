#!/usr/bin/env python3
"""Count what is in a text: words, sentences, paragraphs, reading time, the words used most.

Words are runs of letters and digits of any script, apostrophes and hyphens inside included. Reading time assumes 230
words a minute. Languages written without spaces give one word per run, so their word counts are too low.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from typing import Any

sys.dont_write_bytecode = True  # a run leaves the skill folder as it was
from textfile import BadInput, read_text, run, short  # noqa: E402

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”’)\]]{0,4}(?=\s|$)|[。！？]+|\n\s*\n")
ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|vs|etc|e\.g|i\.e|approx|Fig)|\b[A-Z])\.$")
WORDS_A_MINUTE = 230
COMMON = set(
    """
    a about after all also an and any are as at be because been before but by can could did do does for from had has
    have he her his how i if in into is it its just like me more most my no not of on one only or other our out over
    she so some such than that the their them then there these they this those through to too up us was we were what
    when where which while who will with would you your
    """.split()  # noqa: SIM905
)


def sentences(text: str) -> list[str]:
    """The sentences of `text`, each one with at least one word; an abbreviation's dot ends none."""
    found, start = [], 0
    for end in SENTENCE_END.finditer(text):
        if end[0] == "." and ABBREVIATION.search(text[max(start, end.end() - 12) : end.end()]):
            continue
        found.append(text[start : end.end()].strip())
        start = end.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if WORD.search(sentence)]


def measure(text: str) -> dict[str, Any]:
    """All facts about `text`, as plain data."""
    words = WORD.findall(text)
    if not words:
        raise BadInput("the file holds no words")
    parts = sentences(text)
    longest = max(parts, key=lambda part: len(WORD.findall(part)))
    folded = Counter(word.lower().replace("’", "'") for word in words)
    telling = [(word, count) for word, count in folded.items() if word not in COMMON and len(word) > 2]
    return {
        "lines": len(text.splitlines()),
        "paragraphs": sum(1 for block in re.split(r"\n\s*\n", text) if block.strip()),
        "sentences": len(parts),
        "words": len(words),
        "distinct_words": len(folded),
        "characters": len(text),
        "words_per_sentence": round(len(words) / len(parts), 1),
        "longest_sentence": {"words": len(WORD.findall(longest)), "text": short(longest, 300)},
        "reading_seconds": round(len(words) * 60 / WORDS_A_MINUTE),
        "top_words": sorted(telling, key=lambda pair: (-pair[1], pair[0]))[:20],
    }


def duration(seconds: int) -> str:
    """Seconds as a person says them."""
    return f"{seconds} seconds" if seconds < 90 else f"{round(seconds / 60)} minutes"


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the words, sentences and paragraphs of a text.")
    parser.add_argument("file", help="the text: plain text, Markdown, or source of any kind")
    parser.add_argument("--full", action="store_true", help="also the longest sentence and twenty frequent words")
    parser.add_argument("--json", action="store_true", help="all facts as JSON")
    options = parser.parse_args()
    facts = measure(read_text(options.file))
    if options.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return 0
    print(f"words: {facts['words']} ({facts['distinct_words']} distinct)")
    print(f"sentences: {facts['sentences']}")
    print(f"paragraphs: {facts['paragraphs']}")
    print(f"lines: {facts['lines']}")
    print(f"characters: {facts['characters']}")
    print(f"words per sentence: {facts['words_per_sentence']}")
    print(f"longest sentence: {facts['longest_sentence']['words']} words")
    print(f"reading time: {duration(facts['reading_seconds'])}")
    top = facts["top_words"][: 20 if options.full else 5]
    print("top words: " + (", ".join(f"{short(word, 30)} {count}" for word, count in top) or "none"))
    if options.full:
        print(f"longest sentence text: {facts['longest_sentence']['text']}")
    return 0


if __name__ == "__main__":
    run(main)
