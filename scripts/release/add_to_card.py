#!/usr/bin/env python3
"""Write the output of a measurement into a model's card and README, under a heading. It replaces an earlier table of that name.

    scripts/studies/measure_promises.py | scripts/release/add_to_card.py models/pop-joints-5 "Promises"

Network, weights and thresholds do not change, but the card's digest does: do this before the model is taken into use.
Without input nothing is written.
"""

import argparse
import sys
from pathlib import Path

from inspect_pop.classify.model import load
from inspect_pop.learn.package_model import seal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("heading")
    options = parser.parse_args()
    text = sys.stdin.read().strip()
    if not text:
        parser.error("nothing came in: did the measurement fail?")
    model = load(options.model)
    tables = {**model.card.metrics.get("tables", {}), options.heading: text}
    seal(model.folder, model.card.model_copy(update={"metrics": {**model.card.metrics, "tables": tables}}))
    print(text)


if __name__ == "__main__":
    main()
