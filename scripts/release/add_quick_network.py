#!/usr/bin/env python3
"""Add an 8-bit network, for a first look at all joints, to a model that was made without one.

    scripts/release/add_quick_network.py MODEL SAMPLES

MODEL is the model's folder; its card is written again and gets a new digest. SAMPLES is a folder of joints from boards like
those that the model will inspect (such as the calibration set): every second joint sets the ranges of the 8-bit numbers, the
others judge the result. Models made by `inspect-pop train` and `make_release.py` have this network already.
"""

import argparse
from pathlib import Path

import numpy as np

from inspect_pop.classify.model import load
from inspect_pop.evaluate.samples import load as load_samples
from inspect_pop.learn.network import NETWORK, load_network
from inspect_pop.learn.package_model import add_int8_network, seal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", type=Path)
    options = parser.parse_args()
    card, samples = load(options.model).card, load_samples(options.samples)
    odd = np.arange(len(samples)) % 2 == 1
    network, _ = load_network(options.model / NETWORK)
    report = add_int8_network(options.model, network, samples.take(~odd), samples.take(odd))
    seal(options.model, card.model_copy(update={"data": {**card.data, "quick network": report}}))
    print(f"{options.model}: {report}")


if __name__ == "__main__":
    main()
