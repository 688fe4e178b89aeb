"""split.py REGISTER --ratio N"""

import argparse

parser = argparse.ArgumentParser()
parser.add_argument("register")
parser.add_argument("--ratio", type=int, required=True)
asked = parser.parse_args()
total = 0
with open(asked.register, encoding="utf-8") as file:
    for line in file:
        name, _, count = line.strip().rpartition(" ")
        total += int(count) * asked.ratio
        print(f"{name}: {int(count) * asked.ratio}")
print(f"in all: {total}")
