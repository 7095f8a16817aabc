"""The table of flags."""

import pytest

from inspect_pop.core import flags


def test_each_flag_has_one_bit_of_its_own() -> None:
    assert [flag.value for flag in flags.FLAGS] == [1 << k for k in range(len(flags.FLAGS))]
    assert len({flag.name for flag in flags.FLAGS}) == len(flags.FLAGS)


def test_names_of_a_value() -> None:
    value = flags.bit("critical_slice_missing") | flags.bit("no_ball")
    assert flags.names(value) == ("no_ball", "critical_slice_missing")
    assert flags.names(0) == ()


def test_the_mask_holds_what_forbids_a_pass() -> None:
    forbidding = set(flags.names(flags.REVIEW_MASK))
    assert {"no_slices", "crop_mismatch", "unfamiliar", "alignment_uncertain", "critical_slice_missing"} <= forbidding
    assert not forbidding & {"slice_missing", "no_ball", "large_offset", "void_over_limit"}


def test_an_unknown_flag_is_refused() -> None:
    for look_up in (flags.bit, flags.meaning):
        with pytest.raises(KeyError):
            look_up("lost")
