"""Any joint of a record is cut again from its export, while that is still the same."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.align import align_height, align_slices
from inspect_pop.core.errors import FileFault, UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.ingest import open_export
from inspect_pop.verify import windows_file
from inspect_pop.verify.windows import ExportPlace, cut_slice_window
from inspect_pop.verify.windows_file import StoredWindows, cut_again, cut_all, is_there, pack_windows

SAMPLE = Path(__file__).resolve().parents[2] / "datasets" / "sample"


@pytest.fixture
def kept(tmp_path: Path) -> StoredWindows:
    windows_file._read_interface.cache_clear()
    batch = Path(shutil.copytree(SAMPLE, tmp_path / "batch", copy_function=shutil.copyfile))
    (board,) = (batch / "boards").iterdir()
    export = open_export(board)
    (package,) = export.recipe.packages
    placements = {s.name: align_slices(s.read(), package, Limits()) for s in export.slices}
    placements |= {m.name: align_height(m.read(), package, Limits()) for m in export.height_maps}
    return StoredWindows("r", "", {}, {}, ExportPlace(str(board), str(batch), export.digest), placements)


def test_a_joint_is_cut_from_the_same_pixels_again(kept: StoredWindows) -> None:
    assert kept.export is not None and is_there(kept.export)
    export = open_export(Path(kept.export.path))
    source, interface = export.slices[0], export.recipe.packages[0].interface(export.slices[0].interface)
    index = len(interface.ball) // 2
    name = f"{source.refdes}.{interface.name}.{interface.ball[index]}"
    window = cut_again(kept, name)
    wanted = cut_slice_window(source.read(), interface, kept.placements[source.name], index, most_samples=None)
    np.testing.assert_array_equal(window.codes, wanted.codes)
    assert window.heights is not None and window.heights.stage == "post_reflow"
    for other in (f"{source.refdes}.{interface.name}.ZZ99", "U9.lower.A1", f"{source.refdes}.middle.A1"):
        with pytest.raises(UsageFault):
            cut_again(kept, other)


def test_all_joints_take_at_most_40_kb_each(kept: StoredWindows) -> None:
    cut = cut_all(kept)
    assert kept.export is not None
    assert len(cut.windows) == open_export(Path(kept.export.path)).recipe.n_joints
    assert len(pack_windows(cut)) < 40_000 * len(cut.windows)


def test_an_export_that_is_gone_changed_or_never_was_is_said(kept: StoredWindows) -> None:
    assert kept.export is not None
    with pytest.raises(FileFault, match="the board was uploaded"):
        cut_again(replace(kept, export=None), "U1.lower.A1")
    manifest = Path(kept.export.path) / "export.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"serial": "ANOTHER"}))
    with pytest.raises(FileFault, match="another one, of digest"):
        cut_again(kept, "U1.lower.A1")
    shutil.rmtree(kept.export.path)
    assert not is_there(kept.export) and not is_there(None)
    with pytest.raises(FileFault, match="none that can be read"):
        cut_again(kept, "U1.lower.A1")
