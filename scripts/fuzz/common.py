"""What the fuzz harnesses share: instrumented imports, a place to write files, and the run itself.

    scripts/fuzz/manifest.py -max_total_time=600          # any option of libFuzzer
    scripts/fuzz/manifest.py tests/fuzz/corpus/manifest/X  # one input again

Each harness has a function `one(data)` that reads the bytes as the product would and lets pass only the declared errors;
`tests/fuzz` replays the committed corpus through it. What a run finds is kept in `.fuzz/NAME`; an input that broke
something belongs into `tests/fuzz/corpus/NAME` together with the repair.
"""

import hashlib
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
sys.path.insert(0, str(ROOT))  # some use the tests' factories
work = [ROOT / ".fuzz" / "work"]  # where `place` is; the last one counts
LIMITS = ("-timeout=120", "-rss_limit_mb=1024", "-max_len=8192")  # waits for ever, takes all memory; seeds are small
CPU_S = 5.0  # the longest that one input may take; not by the clock, which runs on while a busy machine does other things


def instrumented(name: str, *more: str) -> AbstractContextManager[None]:
    """Imports inside are instrumented for coverage where the harness is run itself, and plain where it is imported.

    What is instrumented: the product, and the packages named in `more`.
    """
    if name != "__main__":
        return nullcontext()
    return _atheris().instrument_imports(include=["inspect_pop", *more])


def run(one: Callable[[bytes], None], name: str) -> None:
    """Fuzz until something breaks or an option ends it. Options of libFuzzer come from the command line."""
    atheris = _atheris()
    options = sys.argv[1:]
    work.append(work[0] / name)
    if all(option.startswith("-") for option in options):
        grown, dictionary = ROOT / ".fuzz" / name, Path(__file__).with_name(f"{name}.dict")
        grown.mkdir(parents=True, exist_ok=True)
        options += [str(grown), str(CORPUS / name), f"-artifact_prefix={grown.parent}/{name}-"]
        options += [f"-dict={dictionary}"] if dictionary.is_file() else []
    atheris.Setup([sys.argv[0], *LIMITS, *options], _kept(one, ROOT / ".fuzz", name))
    atheris.Fuzz()


def _kept(one: Callable[[bytes], None], folder: Path, name: str) -> Callable[[bytes], None]:
    """`one`, with an input that breaks it written down at once: on a busy machine libFuzzer's alarm may end it before it does."""

    def kept(data: bytes) -> None:
        try:
            started = time.process_time()
            one(data)
            if time.process_time() - started > CPU_S:
                raise TimeoutError(f"took longer than {CPU_S} s")
        except BaseException:
            (folder / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            raise

    return kept


@cache
def place() -> Path:
    """A copy of the sample batch to write into; each harness has its own, and makes it anew."""
    folder = Path(work[-1])
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(ROOT / "datasets" / "sample", folder, copy_function=shutil.copyfile))


def _atheris():
    try:
        import atheris
    except ImportError as error:
        raise SystemExit("atheris is not installed: pip install 'inspect_pop[fuzz]'") from error
    return atheris
