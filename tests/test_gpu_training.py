"""The run on one GPU, end to end on a few photographs and tiny networks, two steps a stage; and its parts."""

import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from shop import SHARED

import xlxmert_core
from book.train.gpu import __main__ as gpu
from book.train.gpu import common, eye, networks, pack, text
from book.train.gpu.reader import held_out_texts
from xlxmert_core import checkpoints
from xlxmert_core.config import GeneratorConfig, ModelConfig
from xlxmert_core.data import catalogue
from xlxmert_core.data.arrays import product_table
from xlxmert_core.data.catalogue import HELD_OUT
from xlxmert_core.data.lxmert import Example
from xlxmert_core.evaluate.products import known_of
from xlxmert_core.generator import Generator, conv
from xlxmert_core.model import XLxmert
from xlxmert_core.text import Tokenizer
from xlxmert_core.train.muon import Muon
from xlxmert_core.train.pretraining import PairedText, exchange_word

EACH = 14  # photographs of a split


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    """A packed folder of real photographs; all networks but Lite0 with weights that were drawn."""
    if not (SHARED / "styles.csv").is_file():
        pytest.skip("no product photographs beside the clone")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("packed")
    pack.pack_photographs(SHARED, folder, EACH)
    for name in networks.NETWORKS:
        networks.pack(folder, name, networks.NETWORKS[name]())
    return folder


@pytest.fixture(scope="module")
def data(packed, tmp_path_factory) -> common.Data:
    work = tmp_path_factory.mktemp("work")
    common.decode(packed, work, 1)
    return common.load_data(packed, work, "cpu")


def test_the_whole_run(packed, tmp_path, monkeypatch):
    def small_painter(data, folder, work, clock, codes_path_waiting, saved, small):
        sizes = dict(bottleneck=32, channels=(16, 16, 16, 16, 8), spade_hidden=8)
        generator = Generator(GeneratorConfig(feature_dim=eye.FEATURE, **sizes), conv)
        assert codes_path_waiting.is_file()
        checkpoints.save(generator, work / "model" / "generator.safetensors", bits=16)
        saved()

    monkeypatch.setitem(sys.modules, "book.train.gpu.painter", type("Painter", (), {"train_painter": small_painter}))
    out, work = tmp_path / "out", tmp_path / "work"
    given = ["--data", str(packed), "--out", str(out), "--work", str(work), "--device", "cpu", "--smoke"]
    assert gpu.main(given) == 0
    files = {path.name: path.stat().st_size for path in out.iterdir()}
    assert files.keys() == {"model.tar", "codes.tar.gz", "sheets.tar", "generator.safetensors", "reader.safetensors",
                            "record.json"}  # fmt: skip
    assert max(files.values()) < 16 * 2**20
    record = json.loads((out / "record.json").read_text())
    assert set(record) == {"about", "eye", "codes", "reader", "transformer", "evaluation"}
    assert set(record["evaluation"]["numbers"]) == {"photographs", "reconstructions", "frechet", "paintings", "seeds",
                                                    "held_out"}  # fmt: skip
    with tarfile.open(out / "model.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    (tmp_path / "model" / "generator.safetensors").write_bytes((out / "generator.safetensors").read_bytes())
    pipeline = xlxmert_core.load(tmp_path / "model")
    painting = pipeline.paint("a red shirt", steps=2, candidates=1, polish=0)
    assert painting.images.shape == (1, 128, 128, 3)
    assert pipeline.encode(painting.images).shape == (1, 64)


def test_a_failing_stage_loses_nothing(packed, tmp_path, monkeypatch, capsys):
    def fail(run):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(gpu, "STAGES", dict.fromkeys(gpu.STAGES, fail))
    monkeypatch.setattr(gpu, "decode", lambda *_: None)
    given = ["--data", str(packed), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--device", "cpu"]
    assert gpu.main(given) == 1
    assert (tmp_path / "out" / "record.json").is_file()
    assert "no such luck" in capsys.readouterr().err


def test_pictures_come_back_from_the_pack_with_their_roles(data):
    assert data.images.shape == (3 * EACH, 3, 128, 128) and data.images.dtype == torch.uint8
    rows = {name: those.tolist() for name, those in data.rows.items()}
    assert sorted(sum(rows.values(), [])) == [*range(3 * EACH)]
    assert not any(data.products[row].held_out for name in ("trainable", "val", "test") for row in rows[name])
    first = catalogue.read(SHARED).splits["train"][0]
    assert data.products[0] == first and known_of(data.records[0])["type"] == [first.type]
    photograph = np.asarray(pack.open_image(SHARED / "images" / f"{first.id}.jpg"), np.float32)
    assert np.abs(photograph - data.images[0].permute(1, 2, 0).numpy()).mean() < 4
    assert [len(values) for values in data.labels.values()] == [3 * EACH] * 4


@pytest.mark.parametrize(("name", "most"), [("lite0", 0.02), ("lite2", 0.08), ("vgg", 0.02)])
def test_networks_travel_nearly_unchanged(packed, name, most):
    torch.manual_seed(0)
    network, pictures = networks.NETWORKS[name]().eval(), torch.rand(2, 3, 64, 64) * 2 - 1
    networks.pack(packed, name, network)
    there = networks.unpack(packed, name)
    ours, theirs = (n.raw_maps(pictures)[-1] if name == "vgg" else n(pictures) for n in (network, there))
    for a, b in zip(*((x,) if isinstance(x, torch.Tensor) else x for x in (ours, theirs)), strict=True):
        assert (a - b).norm() / a.norm() < most
    with pytest.raises((ValueError, RuntimeError)):
        networks.pack(packed, name, torch.nn.Conv2d(3, 3, 3))
        networks.unpack(packed, name)
    networks.pack(packed, name, network)


def test_perceptual_distance():
    network = networks.Perceptual()
    for weight in network.weights:
        weight.data.fill_(1.0)
    a = torch.rand(2, 3, 64, 64) * 2 - 1
    assert network(a, a).item() == 0 < network(a, -a).item()
    assert [list(x.shape[1:3]) for x in network.raw_maps(a)] == [[64, 64], [128, 32], [256, 16], [512, 8]]


def test_targets_are_those_of_the_catalogue(data):
    """The product's cells and parts are what the chapters' eye learns; colour and sketch are read off the pixels."""
    images = data.images[:16].permute(0, 2, 3, 1).numpy()
    masks = catalogue.product_masks(images)
    seen = eye.targets(common.to_unit(data.images[:16]), torch.from_numpy(masks))
    cells = catalogue.covered_cells(masks)
    assert np.array_equal(seen["on"].view(-1, 8, 8).numpy(), cells)
    parts = catalogue.parts(catalogue.boxes(masks), cells, eye.ACROSS)
    assert (seen["part"].view(-1, 8, 8).numpy() == parts).mean() > 0.99  # rounding, where a middle is on a border
    picture, mask = torch.ones(1, 3, 128, 128), torch.zeros(1, 128, 128, dtype=torch.bool)
    picture[:, 1:, 32:96, 48:80], mask[:, 32:96, 48:80] = -1.0, True  # a red box: rows 2 to 5, columns 3 and 4
    seen = eye.targets(picture, mask)
    assert seen["on"].sum() == 8
    red = seen["lab"].view(8, 8, 5)[3, 3]
    assert torch.allclose(red[:3], torch.tensor([53.2 / 50 - 1, 80.1 / 50, 67.2 / 50]), atol=0.02)
    assert seen["sketch"].view(8, 8, 64)[3, 3].abs().max() < 1e-3


def test_k_means_finds_clusters():
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    rows = centres.repeat(50, 1) + 0.1 * torch.randn(150, 2)
    found, error = eye.k_means(rows, 3, starts=3)
    assert error < 0.05
    assert torch.cdist(centres, found).min(1).values.max() < 0.1
    assert torch.equal(eye.nearest(rows, found)[1], torch.cdist(rows, found).argmin(1))


def test_a_word_is_exchanged_as_the_module_does_it():
    """For whole batches: one word of a group for another that is known beside both neighbours, or nothing."""
    told = ["a red shirt", "a blue shirt", "an olive shirt", "black shirts for men", "black shirts for women"]
    tokenizer = Tokenizer.from_corpus(told)
    paired = PairedText.build([Example(str(i), t, "mscoco") for i, t in enumerate(told)], [*map(str, range(5))],
                              torch.zeros(5, 64, dtype=torch.int32), tokenizer, [], 8)  # fmt: skip
    batches = text.DeviceBatches(paired, tokenizer, 4)
    draws, words = torch.Generator().manual_seed(0), paired.words.long()
    ours = {tuple(row) for _ in range(40) for row in batches.exchanged(words, draws).tolist()}
    theirs = {tuple(row) for _ in range(40)
              for row in exchange_word(words, batches.exchangeable, batches.known, draws).tolist()}  # fmt: skip
    assert ours == theirs and len(ours) == 5  # "red" and "blue", "men" and "women"; "olive" stands alone
    assert batches(3, draws)["matched"].shape == (4,)


def test_texts_of_pairs_held_out_name_them():
    shown = held_out_texts(3)
    assert len(shown.texts) == 3 * len(HELD_OUT) and shown.texts[:3] == [
        "a purple shirt", "a purple women's shirt", "a purple men's shirt"]  # fmt: skip
    assert known_of(shown.records[-1]) == {"type": [HELD_OUT[-1][0]], "colour": [HELD_OUT[-1][1]]}


def test_matrices_moved_together_go_where_muon_moves_them():
    torch.manual_seed(0)
    shapes = [(6, 4), (4, 6), (6, 4), (5, 5)]
    ours, theirs = ([torch.nn.Parameter(torch.full(shape, 0.5)) for shape in shapes] for _ in range(2))
    both = common.Together(ours, lr=0.1), Muon(theirs, lr=0.1)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        ours[3].grad = theirs[3].grad = None  # a head that has no turn
        for optimiser in both:
            optimiser.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    assert (ours[0] - 0.5).abs().max() > 0.01 and torch.equal(ours[3], torch.full((5, 5), 0.5))


def test_clock_and_decay():
    clock = common.Clock(end=1e12, steps=3)
    assert len(list(clock)) == 3 and clock.progress() == 1.0
    assert common.decay(0.04) == pytest.approx(1.0) and common.decay(0.999) < 1e-3
    assert len(list(common.Clock(end=0.0))) == 1  # too late: one step all the same
    with pytest.raises(TimeoutError, match=r"nothing\.pt did not come"):
        common.wait_for(Path("nothing.pt"), 0.0)


def test_product_codes_of_the_run_make_a_model_that_is_small_on_disk(tmp_path):
    table = product_table(torch.randn(1024, 48), torch.randn(32, 16))
    sizes = dict(hidden=16, heads=2, feed_forward=16, language_layers=1, visual_layers=1, cross_layers=1)
    config = ModelConfig(vocab_size=20, codes=32768, feature_dim=64, colour_codes=32, colour_dim=16, answers=8, **sizes)
    model = XLxmert(config, table)
    checkpoints.save(model, tmp_path / "model.safetensors", bits=16)
    assert (tmp_path / "model.safetensors").stat().st_size < 2**18
    again = XLxmert(config)
    checkpoints.load(again, tmp_path / "model.safetensors")
    assert torch.equal(again.centroids, table.half().float())
