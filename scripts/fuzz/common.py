"""What the fuzz harnesses share: instrumented imports, a folder for files, and the run itself.

    scripts/fuzz/manifest.py -max_total_time=600           # any option of libFuzzer
    scripts/fuzz/manifest.py tests/fuzz/corpus/manifest/X  # replay one input

Each harness has a function `one(data)` that reads the bytes as the product would and lets only declared errors pass;
`tests/fuzz` replays the committed corpus through it. What a run finds is written to `.fuzz/NAME`. An input that broke
something belongs in `tests/fuzz/corpus/NAME`, together with the fix.
"""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
sys.path.insert(0, str(ROOT))  # some harnesses use the tests' factories
work = [ROOT / ".fuzz" / "work"]  # where `place` is; the last entry counts
LIMITS = ("-timeout=120", "-rss_limit_mb=1024", "-max_len=8192")  # seconds and MB per input; seeds are small
CPU_S = 5.0  # processor time that one input may take; wall time would depend on other load


def instrument(name: str, *more: str) -> AbstractContextManager[None]:
    """Instrument the imports inside for coverage if the harness is run, and leave them plain if it is imported.

    Instrumented are the product and the packages named in `more`.
    """
    if name != "__main__":
        return nullcontext()
    return _atheris().instrument_imports(include=["inspect_pop", *more])


def run(one: Callable[[bytes], None], name: str, words: Iterable[str] = ()) -> None:
    """Fuzz until something breaks or an option ends it; the command line has libFuzzer's options.

    `words` are put into inputs beside those of the harness's dictionary.
    """
    atheris = _atheris()
    options = sys.argv[1:]
    work.append(work[0] / f"{name}-{os.getpid()}")  # two turns of one harness may overlap
    if all(option.startswith("-") for option in options):
        grown = ROOT / ".fuzz" / name
        grown.mkdir(parents=True, exist_ok=True)
        options += [str(grown), str(CORPUS / name), f"-artifact_prefix={grown.parent}/{name}-"]
        if dictionary := collect_words(name, words):
            (grown.parent / f"{name}.dict").write_text(dictionary, encoding="utf-8")
            options += [f"-dict={grown.parent}/{name}.dict"]
    atheris.Setup([sys.argv[0], *LIMITS, *options], _keep_failures(one, ROOT / ".fuzz", name))
    atheris.Fuzz()


def collect_words(name: str, words: Iterable[str] = ()) -> str:
    """The harness's dictionary, as libFuzzer reads it, with these words added; empty where there are none."""
    committed = Path(__file__).with_name(f"{name}.dict")
    text = committed.read_text(encoding="utf-8") if committed.is_file() else ""
    return text + "".join(f'"{word}"\n' for word in words)


def _keep_failures(one: Callable[[bytes], None], folder: Path, name: str) -> Callable[[bytes], None]:
    """Wrap `one` so that an input that breaks it is written at once: on a busy machine libFuzzer's alarm may come first."""

    def one_and_keep(data: bytes) -> None:
        try:
            started = time.process_time()
            one(data)
            if time.process_time() - started > CPU_S:
                raise TimeoutError(f"took longer than {CPU_S} s")
        except BaseException:
            (folder / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            raise

    return one_and_keep


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
