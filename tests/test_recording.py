"""The README's animated picture is there, small, and made by its script."""

import pytest
from PIL import Image

from book.build import recording
from book.build.run_chapters import ROOT


def test_the_recording_is_small_and_moves():
    assert recording.TARGET.stat().st_size < recording.MOST
    with Image.open(recording.TARGET) as picture:
        assert picture.n_frames > 10 and picture.size == (4 * 128, 128)
    assert recording.TARGET.relative_to(ROOT).as_posix() in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_the_script_makes_such_a_picture(tmp_path):
    path = recording.record(tmp_path / "steps.gif", seed=1, steps=2, candidates=1, polish=0)
    with Image.open(path) as picture:
        assert picture.n_frames > 1 and picture.size == (4 * 128, 128)
