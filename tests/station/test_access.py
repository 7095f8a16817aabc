"""Token files: what can be read, and what is refused without showing a digest."""

import hashlib
from pathlib import Path

import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.station.access import LOCAL_CALLER, load_tokens

DIGEST = hashlib.sha256(b"secret").hexdigest()
GOOD = f'[[token]]\nname = "a"\nrole = "station"\nsha256 = "{DIGEST}"\n'


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    return file


def test_a_token_is_known_by_its_digest_in_either_case(tmp_path: Path) -> None:
    for text in (GOOD, GOOD.replace(DIGEST, DIGEST.upper())):
        caller = load_tokens(write(tmp_path, text)).find_caller("bearer secret")
        assert caller is not None
        assert (caller.name, caller.role, caller.may("inspect"), caller.may("verify")) == ("a", "station", True, False)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "secret", f"Bearer {DIGEST}", "Basic secret"])
def test_nothing_else_is_known(tmp_path: Path, header: str | None) -> None:
    assert load_tokens(write(tmp_path, GOOD)).find_caller(header) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "token = 3",
        "[[token]]",
        "not toml",
        GOOD + GOOD,
        GOOD + GOOD.replace('"a"', '"b"'),
        GOOD + GOOD.replace(DIGEST, "0" * 64),
        GOOD.replace("station", "king"),
        GOOD.replace(DIGEST, "short"),
        GOOD.replace(DIGEST, "g" * 64),
        GOOD.replace('name = "a"', "name = 3"),
        GOOD + 'roots = "/x"\n',
        GOOD + "colour = 3\n",
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_shows_no_digest(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageFault) as refused:
        load_tokens(write(tmp_path, text))
    assert DIGEST not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="FileNotFoundError"):
        load_tokens(tmp_path / "none")


def test_a_local_caller_may_do_everything() -> None:
    assert all(LOCAL_CALLER.may(act) for act in ("inspect", "read", "verify", "administer"))
