"""The page reads sentences as Python does: one table of spellings, one rule for slips, the same ids. Run by node."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from book.build.run_chapters import ROOT
from xlxmert_core.data import spelling
from xlxmert_core.data.storybook import captions, sample_scene
from xlxmert_core.text import Tokenizer

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node")
ODD = ["a Dragon above a red house!", "It's a purpel ballon, isn't it?", "2 red houses at nighttime", "the COLOR of it",
       "a big fluffy dog and a cat", "dogs under a tree", "", "?!", "a \U0001f388 star", "houose hous hause horse",
       "a [MASK] house!", "please, three teeny birds... and a bee", "a red-and-blue bal-loon, a - house"]  # fmt: skip


def run(module: str, call: str, argument):
    """What an expression over one of the page's modules, called ``it``, gives for an argument, called ``x``."""
    address = (ROOT / "book" / "painter" / f"{module}.js").as_uri()
    script = f"import * as it from {json.dumps(address)}; const x = {json.dumps(argument)};\
               console.log(JSON.stringify({call}));"
    told = subprocess.run([NODE, "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    return json.loads(told.stdout)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return [caption.text for _ in range(400) for caption in captions(sample_scene(rng), rng)]


def test_ids_are_pythons(texts):
    tokenizer = Tokenizer.from_corpus(texts)
    table = tokenizer.backend.get_vocab()
    said = [*ODD, *texts[:40]]
    found = run("tokenizer", "x[2].map((text) => new it.Tokenizer(x[0], x[1]).encode(text))",
                [sorted(table, key=table.get), 20, said])  # fmt: skip
    assert found == [tokenizer.encode([text], 20)[0][0].tolist() for text in said]
    readings = [tokenizer.reading(text) for text in ODD]
    assert sum(bool(reading.things) for reading in readings) >= 4
    assert sum(any(reading.unknown.values()) for reading in readings) >= 2


def test_the_tables_are_pythons():
    joined, determiners, after = run("spelling", "[[...it.JOINED], [...it.DETERMINERS], [...it.AFTER]]", None)
    assert dict(joined) == spelling.JOINED
    assert (set(determiners), set(after)) == (spelling.DETERMINERS, spelling.AFTER)


def test_remarks_name_what_is_lost_and_what_is_mended():
    remarks = run("tokenizer", "x[1].map((text) => new it.Tokenizer(x[0], 9).remarks(text))", [
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "house", "above"],
        ["a Dragon above a red hous!", "a red house?", "  "]])  # fmt: skip
    assert remarks == [
        "The model never learned “dragon”: it passes over what it does not know. The picture will lack “dragon”. "
        "Read: “hous” as “house”.", "", "An empty sentence asks for nothing: the model does as it likes."]  # fmt: skip
