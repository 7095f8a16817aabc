#!/usr/bin/env python3
"""Make a model in the way in which the released one was made: simulate, fit, fit again with labelled boards, calibrate, export.

    scripts/release/make_release.py OUT [LABELLED …] [--recipe FILE] [--work DIR] [--processes N] [--device cpu|cuda]
    torchrun --nproc-per-node N scripts/release/make_release.py OUT …    # several processes or GPUs (docs/training.md)

OUT is the folder of the new model; LABELLED are batches of exports with labels.csv. To resume an interrupted call, repeat it
with the same --work. `scripts/studies/measure_accuracy.py` measures the result, `inspect-pop models promote` takes it into use.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from inspect_pop.learn.fit import join_processes, select_device
from inspect_pop.learn.release import gather_sets, load_release_config, train_release

TOP = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("labelled", type=Path, nargs="*")
    parser.add_argument("--recipe", type=Path, default=TOP / "training" / "configs" / "release.toml")
    parser.add_argument("--work", type=Path, default=Path("out/release"))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the GPU, where there is one")
    options = parser.parse_args()
    recipe = load_release_config(options.recipe)
    device = select_device(options.device)
    start = TOP / recipe.start if recipe.start else None
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with join_processes(device) as context:
        progress = (lambda message: print(message, flush=True)) if context.is_leader else (lambda _: None)
        sets = gather_sets(
            recipe, TOP, options.labelled, options.work, processes=options.processes, context=context, progress=progress
        )
        card = train_release(
            sets, recipe, options.out, options.work, now=now, start=start, device=device, context=context, progress=progress
        )
    if card is not None:
        print(f"{options.out}: {card.operating_point.source}")


if __name__ == "__main__":
    main()
