"""water.py PLANT --light LIGHT"""

import argparse

DAYS = {"basil": 2, "cactus": 21, "fern": 4, "ivy": 7}
parser = argparse.ArgumentParser()
parser.add_argument("plant", choices=sorted(DAYS))
parser.add_argument("--light", choices=("shade", "half", "sun"), required=True)
asked = parser.parse_args()
days = max(1, DAYS[asked.plant] + {"shade": 3, "half": 0, "sun": -1}[asked.light])
print(f"{asked.plant}: water it every {days} days, 150 ml each time")
