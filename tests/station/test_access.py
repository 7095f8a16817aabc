"""Token files: what can be read, and what is refused without showing a digest."""

import hashlib
from pathlib import Path

import pytest

from inspect_pop.core.errors import FileFault, PathFault, UsageFault
from inspect_pop.station.access import LOCAL_CALLER, ROLES, Caller, Tokens, load_tokens, resolve_path

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


@pytest.mark.parametrize("text", ["", "\n", " ", "$TOKEN", "token", '""', "None"])
def test_the_digest_of_no_secret_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageFault, match="the sha256 of a secret"):
        load_tokens(write(tmp_path, GOOD.replace(DIGEST, hashlib.sha256(text.encode()).hexdigest())))


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer  \t", "bearer "])
def test_an_empty_token_is_nobodys_even_if_its_digest_were_known(header: str) -> None:
    assert Tokens({hashlib.sha256(b"").hexdigest(): LOCAL_CALLER}).find_caller(header) is None


def test_a_token_that_is_taken_out_of_the_file_is_refused_without_a_restart(tmp_path: Path) -> None:
    other = GOOD.replace('"a"', '"b"').replace(DIGEST, hashlib.sha256(b"other").hexdigest())
    file = write(tmp_path, GOOD)
    tokens = load_tokens(file)
    assert tokens.find_caller("Bearer secret") is not None
    replacement = tmp_path / "new"
    replacement.write_text(other)
    replacement.replace(file)
    assert tokens.find_caller("Bearer secret") is None
    assert tokens.find_caller("Bearer other") is not None
    file.write_text(GOOD + other)  # rotation: both for a while
    assert tokens.find_caller("Bearer secret") is not None


@pytest.mark.parametrize("text", ["", "[[token", "token = 3"])
def test_a_file_that_is_half_written_shuts_nobody_out(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    tokens = load_tokens(write(tmp_path, GOOD))
    write(tmp_path, text)
    assert tokens.find_caller("Bearer secret") is not None
    assert "cannot be used" in caplog.text
    (tmp_path / "tokens.toml").unlink()
    assert tokens.find_caller("Bearer secret") is not None
    assert tokens.find_caller("Bearer wrong") is None


@pytest.mark.parametrize("mode", [0o666, 0o602, 0o622, 0o606])
def test_a_file_that_every_account_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = write(tmp_path, GOOD)
    file.chmod(mode)
    if mode & 0o002:
        with pytest.raises(UsageFault, match="chmod o-w"):
            load_tokens(file)
    else:
        load_tokens(file)


def test_a_file_that_every_account_may_replace_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    file = write(folder, GOOD)
    folder.chmod(0o777)
    with pytest.raises(UsageFault, match="chmod o-w"):
        load_tokens(file)
    folder.chmod(0o1777)  # as /tmp: nobody replaces another one's file
    load_tokens(file)


def test_a_token_file_of_an_editor_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(GOOD, encoding="utf-8-sig")
    assert load_tokens(file).find_caller("Bearer secret") is not None


def test_a_caller_with_roots_reads_no_records() -> None:
    for role in ("station", "reviewer", "admin"):
        kept = Caller("a", role, roots=(Path("/exports/a"),))
        assert not any(kept.may(act) for act in ("read", "verify", "administer"))
        assert kept.may("inspect") is (role != "reviewer")


def test_a_monitor_reads_metrics_and_nothing_else(tmp_path: Path) -> None:
    (caller,) = [load_tokens(write(tmp_path, GOOD.replace('"station"', '"monitor"'))).find_caller("Bearer secret")]
    assert caller is not None
    assert [right for right in sorted(ROLES["admin"]) if caller.may(right)] == ["observe"]


def test_paths_that_a_caller_is_kept_from_read_the_same_there_or_not(tmp_path: Path) -> None:
    for name in ("a/board", "b/board"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "b" / "board")
    kept = [tmp_path / "a"]
    assert resolve_path([tmp_path], "a/board", within=kept) == (tmp_path / "a" / "board", tmp_path / "a")
    assert resolve_path([tmp_path / "a"], "board", within=[tmp_path]) == (tmp_path / "a" / "board", tmp_path / "a")
    reasons = set()
    for name in ("b/board", "b/none", "a/link", "b"):
        with pytest.raises(PathFault) as refused:
            resolve_path([tmp_path], name, within=kept)
        reasons.add(str(refused.value).removeprefix(name))
    assert len(reasons) == 1


@pytest.mark.parametrize(
    "text", ["\\\\axi\\exports\\B1", "C:\\exports\\B1", "/srv/\\\\axi\\exports\\B1", "D:/exports/B1", "/srv/C:/B1"]
)
def test_a_path_of_windows_is_named_as_one(tmp_path: Path, text: str) -> None:
    with pytest.raises((PathFault, FileFault), match=r"found a path of Windows.*mounted"):
        resolve_path([tmp_path], text)


def test_a_local_folder_with_such_a_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "a\\b").mkdir()
    assert resolve_path([tmp_path], "a\\b")[0] == tmp_path / "a\\b"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="No such file or directory"):
        load_tokens(tmp_path / "none")


def test_a_local_caller_may_do_everything() -> None:
    assert all(LOCAL_CALLER.may(act) for act in ("inspect", "read", "verify", "administer"))
