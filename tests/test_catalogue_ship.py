"""The catalogue's world from a trained run to the package: taught, measured part by part, shipped with its card."""

import json
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from shop import fill

import xlxmert_core
from book.train import catalogue_card, measure_catalogue, ship_catalogue
from book.train.gpu.networks import Aside
from book.train.gpu.reader import Reader
from xlxmert_core import checkpoints, folder
from xlxmert_core.config import GeneratorConfig, ModelConfig
from xlxmert_core.data import catalogue
from xlxmert_core.data.arrays import product_table
from xlxmert_core.features import GridEncoder
from xlxmert_core.files import write_json
from xlxmert_core.generator import Generator
from xlxmert_core.model import XLxmert
from xlxmert_core.text import Tokenizer

STEPS = ["--captions", "3", "--vqa", "3", "--nlvr2", "2", "--layers", "1", "--taught", "30"]
FEW = ["--texts", "3", "--photographs", "12", "--seeds", "2"]


def tiny_world() -> xlxmert_core.Pipeline:
    """A random painter of 24 codes and pictures of 128 pixels that knows the shop's words."""
    torch.manual_seed(0)
    texts = [catalogue.noun_phrase(kind, colour) for kind in ("Shirts", "Jeans") for colour in catalogue.COLOURS]
    tokenizer = Tokenizer.from_corpus(texts)
    config = ModelConfig(
        vocab_size=tokenizer.size, hidden=24, heads=3, feed_forward=40, language_layers=1, visual_layers=1,
        cross_layers=2, positions=30, max_words=20, dropout=0.0, codes=24, feature_dim=10, grid=8, answers=3,
        colour_codes=4, colour_dim=4, mixture=2,
    )  # fmt: skip
    sizes = GeneratorConfig(feature_dim=10, bottleneck=8, channels=(8, 8, 8, 4, 4), spade_hidden=4, groups=2)
    model = XLxmert(config, product_table(torch.randn(6, 6), torch.randn(4, 4)))
    eye = GridEncoder(10, {"kind": 3, "colour": 4}, 4, imagenet=False, small=True)
    return xlxmert_core.Pipeline(model, tokenizer, Generator(sizes), eye)


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """A shop, a run as the GPU leaves it (an archive and the generator beside it), weights that were set aside."""
    home = tmp_path_factory.mktemp("world")
    run, site = home / "run", home / "site" / "stlpips_pytorch"
    tiny_world().save(run / "whole", bits=16)
    with tarfile.open(run / "model.tar", "w") as tar:
        for path in sorted((run / "whole").iterdir()):
            if path.name != "generator.safetensors":
                tar.add(path, f"model/{path.name}")
    (run / "whole" / "generator.safetensors").rename(run / "generator.safetensors")
    checkpoints.save(Reader(side=64), run / "reader.safetensors", bits=16)
    write_json(run / "record.json", {"about": {"device": "a GPU", "took": 444.0}, "reader": {"numbers": {"side": 64}}})
    given = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1), "scaling_layer.scale": torch.ones(1, 3, 1, 1)}
    for number, conv in zip(Aside.NUMBERS, Aside().convs, strict=True):
        for part in ("weight", "bias"):
            given[f"net.slice{number[0]}.{number[2:]}.{part}"] = getattr(conv, part).detach()
    site.mkdir(parents=True)
    torch.save(given, site / "alex_shift_tolerant.pth")
    return {"data": fill(home / "shop"), "run": run, "work": home / "work", "site": home / "site"}


def given(places: dict[str, Path], *more: str) -> list[str]:
    return [word for name in ("data", "run", "work") for word in (f"--{name}", str(places[name]))] + [*more]


@pytest.fixture(scope="module")
def finished(places) -> Path:
    assert ship_catalogue.main(given(places, *STEPS)) == 0
    return places["work"] / "model"


@pytest.fixture(scope="module")
def measured(places, finished) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure_catalogue, "PROBE", (20, 16, 2e-3))
        assert measure_catalogue.main(given(places, *FEW, "--site", str(places["site"]))) == 0
    return json.loads((places["work"] / "measured.json").read_text())


@pytest.mark.slow
def test_what_is_taught_is_kept_in_8_bits_and_speaks(finished):
    opened = xlxmert_core.load(finished)
    assert set(opened.skills) == {"captions", "vqa", "nlvr2"}
    painting = opened.paint("a red shirt", steps=2, candidates=1)
    assert opened.caption(painting.images)[0] and opened.answer(painting.images, "what is this")[0] != ""
    assert opened.judge(painting.images, painting.images, "both are red") in ([True], [False])
    kinds = {name: v.dtype for name, v in load_file(finished / "vqa" / "model.safetensors").items() if v.numel()}
    assert kinds["pooler.weight"] == torch.int8
    assert not [name for name in kinds if name.startswith(("encoder.cross.0.", "encoder.language.", "cell_embedding."))]
    assert [name for name in kinds if name.startswith("encoder.cross.1.")]
    recipe = json.loads((finished / "recipe.json").read_text())
    assert recipe["skills"]["steps"] == {"captions": 3, "vqa": 3, "nlvr2": 2}
    assert recipe["equal"]["painted"] > 0.9 and recipe["equal"]["seen"] > 0.9
    assert set(recipe["histories"]) == {"captions", "vqa", "nlvr2"} and recipe["run"]["about"]["took"] == 444


@pytest.mark.slow
def test_started_again_it_trains_nothing_and_ends_alike(places, finished, monkeypatch):
    before = {path: path.read_bytes() for path in finished.rglob("*.safetensors")}
    monkeypatch.setattr("xlxmert_core.train.loop._turn", lambda *_: pytest.fail("it trains again"))
    assert ship_catalogue.main(given(places, *STEPS)) == 0
    assert before == {path: path.read_bytes() for path in finished.rglob("*.safetensors")}


@pytest.mark.slow
def test_everything_is_measured_once(places, measured, monkeypatch):
    parts = {"photographs", "reconstructions", "captions", "vqa", "nlvr2", "frechet", "probe", "unseen", "patterns",
             "paintings_0", "paintings_1"}  # fmt: skip
    assert measured.keys() == parts | {"weights", "about"}
    assert measured["about"] == {"texts": 3, "photographs": 12, "seeds": 2, "seed": 0}
    assert 0 <= measured["photographs"]["types"] <= 1 and measured["photographs"]["count"] == 12
    assert measured["frechet"]["others"] > 0 < measured["paintings_0"]["frechet"]
    assert measured["probe"].keys() == {"type", "colour"} and "mean" in measured["patterns"]
    for task in ("vqa", "nlvr2"):
        assert measured[task].keys() == {"scores", "commonest", "words", "count"}
    assert {"all", "colour", "type"} <= measured["vqa"]["scores"].keys()
    monkeypatch.setattr(measure_catalogue, "write_json", lambda *_: pytest.fail("it measures again"))
    assert measure_catalogue.main(given(places, *FEW, "--site", str(places["site"]))) == 0
    with pytest.raises(ValueError, match="measured.json is about other weights or other texts: remove it"):
        measure_catalogue.main(given(places, *FEW[:1], "4", *FEW[2:]))


@pytest.mark.slow
def test_it_ships_with_a_card_and_opens_by_its_name(places, measured, tmp_path, monkeypatch):
    exported = []
    monkeypatch.setattr(ship_catalogue, "export_graphs", lambda: exported.append(sorted(tmp_path.iterdir())))
    world = ship_catalogue.World(places["data"], places["work"], places["run"])
    read = measured["photographs"] | {"type": 0.5, "colour": 0.25}  # an untrained reader may have read none
    write_json(places["work"] / "measured.json", measured := measured | {"photographs": read})
    final = ship_catalogue.ship(world, tmp_path)
    assert exported == [[final]] and final.name == "catalogue", "graphs are those of what is in its place"
    text = (final / "README.md").read_text()
    assert "—" not in text and "on a GPU, in 7 minutes" in text and "{" not in text
    assert f"{measured['unseen']['both']:.1%} |" in text and "Licence situation" in text and "No faces" in text
    assert json.loads((final / "measured.json").read_text()) == measured
    monkeypatch.setattr(folder, "SHIPPED", tmp_path)
    assert xlxmert_core.load("catalogue").paint("a red shirt", steps=2, candidates=1).images.shape == (1, 128, 128, 3)
    assert folder.shipped_names() == ["catalogue"]
    before = sorted(final.iterdir())
    monkeypatch.setattr(ship_catalogue, "LIMIT", 1000)
    with pytest.raises(ValueError, match=r"The weights take 0\.\d MB, more than 0: make them smaller"):
        ship_catalogue.ship(world, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["catalogue"] and sorted(final.iterdir()) == before
    write_json(places["work"] / "measured.json", measured | {"weights": {}})
    with pytest.raises(ValueError, match="measured.json is about other weights than .*: remove it and measure again"):
        ship_catalogue.ship(world, tmp_path)


def test_what_is_not_there_is_said(tmp_path):
    world = ship_catalogue.World(tmp_path, tmp_path / "work", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no model/config\.json and no model\.tar: name a finished run"):
        world.trained()
    with pytest.raises(FileNotFoundError, match="is not finished: run this without --ship first"):
        ship_catalogue.ship(world, tmp_path)


NUMBERS = {
    "photographs": {"type": 0.9, "colour": 0.8, "both": 0.75, "types": 0.85}, "probe": {"type": 0.81, "colour": 0.8},
    "paintings_0": {"both": 0.6, "frechet": 6.0}, "paintings_1": {"both": 0.7},
    "frechet": {"others": 2.0, "reconstructions": 5.0}, "vqa": {"words": {"all": 0.5}, "commonest": {"all": 0.48}},
}  # fmt: skip


def test_the_card_counts_from_what_was_measured():
    told = {what: (goal, value) for what, goal, value, _ in catalogue_card.rows(NUMBERS)}
    assert told["paintings: type and colour"] == (">= 66.0%", pytest.approx(0.65))
    assert told["paintings: type"] == (">= 87.0%", None)
    assert told["code probe, share of the reader's rate: type"][1] == pytest.approx(0.9)
    assert told["Fréchet distance: reconstructions over other photographs"][1] == pytest.approx(2.5)
    assert told["Fréchet distance: paintings over reconstructions"][1] == pytest.approx(1.2)
    assert told["questions: words alone above the commonest answer"][1] == pytest.approx(0.02)
    assert told["questions about the colour"] == (">= 77.0%", None)
    empty = catalogue_card.rows({})
    assert len(empty) == len(told) and all(value is None for _, _, value, _ in empty)


def test_a_network_set_aside_sees_pictures_apart():
    torch.manual_seed(0)
    network, pictures = Aside().eval(), torch.rand(3, 3, 128, 128) * 2 - 1
    network.requires_grad_(False)
    seen = network(pictures)
    assert seen.shape == (3, 256) and bool(seen.isfinite().all())
    assert float((seen[0] - seen[1]).norm()) > 1e-4 and torch.allclose(network(pictures[:1]), seen[:1], atol=1e-5)
