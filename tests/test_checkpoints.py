"""Weights in and out: our files, the authors' keys, Hugging Face's models, strictness."""

import math
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import LxmertConfig, LxmertForPreTraining

from xlxmert_core import checkpoints
from xlxmert_core.checkpoints import load_state
from xlxmert_core.config import ModelConfig, paper
from xlxmert_core.foreign import convert
from xlxmert_core.foreign.convert import from_lxmert
from xlxmert_core.model import PairClassifier, XLxmert

SMALL = ModelConfig(
    vocab_size=40, hidden=24, heads=3, feed_forward=40, language_layers=2, visual_layers=1,
    cross_layers=2, positions=16, codes=11, feature_dim=10, grid=3, answers=7,
)  # fmt: skip


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# The authors' keys, written out as in their files: "name: shape of the weight", a bias beside each.
MODULES = """
embeddings.LayerNorm: H | encoder.visn_fc.visn_fc: H F | encoder.visn_fc.visn_layer_norm: H |
encoder.visn_fc.box_fc: H 4 | encoder.visn_fc.box_layer_norm: H | pooler.dense: H H
"""
LAYER = """
attention.self.query: H H | attention.self.key: H H | attention.self.value: H H |
attention.output.dense: H H | attention.output.LayerNorm: H | intermediate.dense: W H |
output.dense: H W | output.LayerNorm: H
"""
CROSS = """
visual_attention.att.query: H H | visual_attention.att.key: H H | visual_attention.att.value: H H |
visual_attention.output.dense: H H | visual_attention.output.LayerNorm: H |
lang_self_att.self.query: H H | lang_self_att.self.key: H H | lang_self_att.self.value: H H |
lang_self_att.output.dense: H H | lang_self_att.output.LayerNorm: H |
visn_self_att.self.query: H H | visn_self_att.self.key: H H | visn_self_att.self.value: H H |
visn_self_att.output.dense: H H | visn_self_att.output.LayerNorm: H |
lang_inter.dense: W H | visn_inter.dense: W H | lang_output.dense: H W |
lang_output.LayerNorm: H | visn_output.dense: H W | visn_output.LayerNorm: H
"""
HEADS = """
cls.predictions.transform.dense: H H | cls.predictions.transform.LayerNorm: H |
cls.seq_relationship: 2 H | obj_predict_head.transform.dense: H H |
obj_predict_head.transform.LayerNorm: H | obj_predict_head.linear_feat: F H |
obj_predict_head.out_cluster: K F | answer_head.logit_fc.0: D H | answer_head.logit_fc.2: D |
answer_head.logit_fc.3: A D
"""


def authors_shapes(c: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Key: shape of the authors' transformer file, without the ``module.`` prefix."""
    sizes = {"H": c.hidden, "W": c.feed_forward, "F": c.feature_dim, "K": c.codes, "A": c.answers}
    sizes |= {"D": 2 * c.hidden, "2": 2, "4": 4}
    found = {
        "mask_feat": (c.feature_dim,),
        "bert.embeddings.word_embeddings.weight": (c.vocab_size, c.hidden),
        "bert.embeddings.position_embeddings.weight": (c.positions, c.hidden),
        "bert.embeddings.token_type_embeddings.weight": (c.token_types, c.hidden),
        "cls.predictions.bias": (c.vocab_size,),
        "cls.predictions.decoder.weight": (c.vocab_size, c.hidden),
    }
    groups = [("bert.", MODULES), ("", HEADS)]
    groups += [(f"bert.encoder.layer.{i}.", LAYER) for i in range(c.language_layers)]
    groups += [(f"bert.encoder.r_layers.{i}.", LAYER) for i in range(c.visual_layers)]
    groups += [(f"bert.encoder.x_layers.{i}.", CROSS) for i in range(c.cross_layers)]
    for prefix, table in groups:
        for line in table.split("|"):
            name, letters = line.strip().split(": ")
            shape = tuple(sizes[letter] for letter in letters.split())
            found |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
    return found


def authors_state(config: ModelConfig, size: float = 0.3) -> dict[str, Tensor]:
    state = {f"module.{k}": size * torch.randn(v) for k, v in authors_shapes(config).items()}
    words = state["module.bert.embeddings.word_embeddings.weight"]
    return state | {"module.cls.predictions.decoder.weight": words}


def test_the_list_of_keys_is_the_documented_one():
    shapes = authors_shapes(paper())
    assert len(shapes) == 472
    assert round(sum(torch.Size(s).numel() for s in shapes.values()) / 1e6, 1) == 270.4
    assert shapes["obj_predict_head.out_cluster.weight"] == (10_000, 2048)
    assert shapes["answer_head.logit_fc.3.weight"] == (9500, 1536)


def test_every_key_of_the_authors_is_used_at_paper_scale():
    with torch.device("meta"):
        ours = from_lxmert_shapes(paper())
        model = XLxmert(paper())
    assert ours == {k: tuple(v.shape) for k, v in model.state_dict().items()}


def from_lxmert_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    shapes = authors_shapes(config)
    del shapes["cls.predictions.decoder.weight"]  # tied; values are compared in another test
    renamed = from_lxmert({f"module.{k}": torch.empty(v) for k, v in shapes.items()})
    assert len(renamed) == len(shapes)  # no two share a name
    return {k: tuple(v.shape) for k, v in renamed.items()}


def hugging_face(c: ModelConfig) -> LxmertForPreTraining:
    return LxmertForPreTraining(
        LxmertConfig(
            vocab_size=c.vocab_size, hidden_size=c.hidden, num_attention_heads=c.heads,
            intermediate_size=c.feed_forward, l_layers=c.language_layers, r_layers=c.visual_layers,
            x_layers=c.cross_layers, max_position_embeddings=c.positions,
            visual_feat_dim=c.feature_dim, num_qa_labels=c.answers, task_obj_predict=False,
        )
    ).eval()  # fmt: skip


def example(c: ModelConfig) -> tuple[Tensor, Tensor, Tensor]:
    mask = torch.arange(6) < torch.tensor([6, 3])[:, None]
    return torch.randint(c.vocab_size, (2, 6)), mask, torch.randn(2, c.cells, c.feature_dim)


@torch.no_grad()
def test_the_authors_file_gives_hugging_faces_values_in_every_output():
    state = authors_state(SMALL)
    ours = from_lxmert(state)
    config = convert.lxmert_config(ours, heads=3)
    assert config == replace(SMALL, grid=8)  # everything a file can tell
    model = XLxmert(replace(config, grid=3)).eval()
    load_state(model, ours)  # strict: nothing missing, nothing left

    theirs = hugging_face(SMALL)
    bare = {k.removeprefix("module."): v for k, v in state.items()}
    renamed = {re.sub("^bert", "lxmert", k): v for k, v in bare.items()}
    theirs.load_state_dict({k: renamed[k] for k in theirs.state_dict()})
    words, mask, features = example(SMALL)
    boxes = model.boxes().expand(2, -1, -1)
    want, out = theirs(words, features, boxes, mask.float()), model(words, mask, features)
    pairs = [
        (want.prediction_logits, model.word_logits(out.words)),
        (want.cross_relationship_score, model.match_logits(out.pooled)),
        (want.question_answering_score, model.answer_logits(out.pooled)),
    ]
    assert max((a - b).abs().max().item() for a, b in pairs) <= 1e-5
    assert torch.allclose(model.code_logits(out.cells), code_logits(bare, out.cells), atol=1e-5)
    assert torch.equal(model.mask_feature, bare["mask_feat"])


def code_logits(state: dict[str, Tensor], cells: Tensor) -> Tensor:
    """The authors' visual head, key by key: dense, GELU, LayerNorm, linear_feat, out_cluster."""

    def of(name: str) -> tuple[Tensor, Tensor]:
        return state[f"obj_predict_head.{name}.weight"], state[f"obj_predict_head.{name}.bias"]

    hidden = F.gelu(F.linear(cells, *of("transform.dense")))
    hidden = F.layer_norm(hidden, hidden.shape[-1:], *of("transform.LayerNorm"), eps=1e-12)
    return F.linear(F.linear(hidden, *of("linear_feat")), *of("out_cluster"))


@pytest.mark.parametrize("old_names", [False, True])
def test_prefixes_and_old_names_do_not_matter(old_names):
    state = authors_state(SMALL)
    want = from_lxmert(state)
    bare = {k.removeprefix("module."): v for k, v in state.items()}
    if old_names:
        bare = {
            k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
            for k, v in bare.items()
        }
        assert sum("gamma" in k for k in bare) > 5
    forms = [bare, {re.sub("^bert", "lxmert", k): v for k, v in bare.items()}]
    forms.append({re.sub("^bert.", "", k): v for k, v in bare.items()})
    for form in forms:
        got = from_lxmert(form)
        assert got.keys() == want.keys() and all(torch.equal(got[k], want[k]) for k in want)


def test_centroids_come_from_either_tied_key_and_must_agree():
    state = authors_state(SMALL)
    out_cluster = "module.obj_predict_head.out_cluster.weight"
    both = state | {"module.vis_emb.weight": state[out_cluster].clone()}
    assert torch.equal(from_lxmert(both)["centroids"], state[out_cluster])
    alone = {k: v for k, v in both.items() if k != out_cluster}
    assert torch.equal(from_lxmert(alone)["centroids"], state[out_cluster])
    with pytest.raises(ValueError, match="vis_emb.weight differs from its tied copy"):
        from_lxmert(both | {"module.vis_emb.weight": state[out_cluster] + 1})
    decoder = "module.cls.predictions.decoder.weight"
    with pytest.raises(ValueError, match="decoder.weight differs"):
        from_lxmert(state | {decoder: state[decoder] + 1})


def test_unknown_keys_are_named_and_detector_heads_left_out_aloud():
    state = authors_state(SMALL)
    with pytest.raises(ValueError, match=r"unexpected module.bert.encoder.layer.0.extra.weight;"):
        from_lxmert(state | {"module.bert.encoder.layer.0.extra.weight": torch.zeros(1)})
    detector = {f"module.obj_predict_head.decoder_dict.obj.{p}": torch.zeros(1) for p in "ab"}
    with pytest.raises(ValueError, match="decoder_dict.obj.a"):
        from_lxmert(state | detector)
    detector = {"module.obj_predict_head.decoder_dict.obj.weight": torch.zeros(1)}
    with pytest.warns(UserWarning, match=r"Left out module.obj_predict_head.decoder_dict.obj.weig"):
        assert from_lxmert(state | detector).keys() == from_lxmert(state).keys()


def test_hugging_faces_own_pretraining_file_is_accounted_for():
    config = LxmertConfig(
        vocab_size=40, hidden_size=24, num_attention_heads=3, intermediate_size=40, l_layers=1,
        r_layers=1, x_layers=1, visual_feat_dim=10, num_qa_labels=7,
    )  # fmt: skip
    theirs = LxmertForPreTraining(config).state_dict()
    with pytest.warns(UserWarning, match="decoder_dict.attr.bias.*detector labels"):
        ours = from_lxmert(theirs)
    model = XLxmert(replace(convert.lxmert_config(ours, heads=3), codes=11))
    codes = ("mask_feature", "centroids", "code_feature.", "code_bias")
    load_state(model, ours, optional=codes)
    assert torch.equal(model.answer_head[3].weight, theirs["answer_head.logit_fc.3.weight"])
    with pytest.raises(ValueError, match=r"missing: mask_feature, code_bias, centroids, code_feat"):
        load_state(model, ours)


def test_disagreements_are_named_and_change_nothing():
    model = XLxmert(SMALL)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = {k: v + 1 for k, v in before.items()}
    del state["pooler.weight"]
    state |= {"word_bias": torch.zeros(39), "stranger": torch.zeros(1)}
    with pytest.raises(ValueError) as error:
        load_state(model, state, source="a.pth")
    text = str(error.value)
    assert text.startswith("The weights of a.pth do not fit XLxmert (missing: pooler.weight;")
    assert "unexpected: stranger; wrong shape: word_bias [39] instead of [40]" in text
    assert "\n" not in text
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(ValueError, match=r"missing: .* and \d+ more"):
        load_state(model, {})


def test_saved_and_loaded_is_the_same_and_carries_its_configuration(tmp_path):
    one, other = XLxmert(SMALL, torch.randn(11, 10)), XLxmert(SMALL)
    path = tmp_path / "new" / "model.safetensors"
    checkpoints.save(one, path)
    checkpoints.load(other, path)
    state = other.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in one.state_dict().items())
    assert ModelConfig(**checkpoints.read_config(path)) == SMALL
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]
    with pytest.raises(ValueError, match=r"new/model.safetensors do not fit XLxmert \(.*wrong"):
        checkpoints.load(XLxmert(replace(SMALL, codes=12)), path)


def test_half_is_stored_in_half_the_space_and_loads_as_float32(tmp_path):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    checkpoints.save(model, tmp_path / "half.safetensors", bits=16)
    with safe_open(tmp_path / "half.safetensors", "pt") as file:
        kinds = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert kinds["0.weight"] == torch.float16
    assert kinds["1.num_batches_tracked"] == torch.int64
    fresh = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    checkpoints.load(fresh, tmp_path / "half.safetensors")
    assert fresh[0].weight.dtype == torch.float32
    assert torch.equal(fresh[0].weight, model[0].weight.half().float())
    assert checkpoints.read_config(tmp_path / "half.safetensors") == {}


def test_an_interrupted_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    checkpoints.save(nn.Linear(2, 2), path)
    before = path.read_bytes()

    def fail(state, file, metadata):
        file.write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.save(nn.Linear(2, 2), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


class Bomb:
    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(state, path, metadata):
        Path(path).write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match=r"weights.safetensors cannot be written \(.*No space left.*: free some space"):
        checkpoints.save(nn.Linear(2, 2), tmp_path / "weights.safetensors")
    assert not list(tmp_path.iterdir())


def test_files_are_read_and_never_executed(tmp_path):
    torch.save({"a": torch.arange(3)}, tmp_path / "plain.pth")
    assert checkpoints.read(tmp_path / "plain.pth")["a"].tolist() == [0, 1, 2]
    torch.save({"a": Bomb()}, tmp_path / "bomb.pth")
    (tmp_path / "bomb.bin").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "cut.safetensors").write_bytes(b"123")
    for name in ("bomb.pth", "bomb.bin", "cut.safetensors"):
        with pytest.raises(ValueError, match=f"{name} is not a file of plain weights"):
            checkpoints.read(tmp_path / name)
    assert not Bomb.exploded
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "nested.pth")
    with pytest.raises(ValueError, match="bare state_dict"):
        checkpoints.read(tmp_path / "nested.pth")
    with pytest.raises(FileNotFoundError, match="nowhere.pth is not there"):
        checkpoints.read(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    module = nn.Linear(3, 2)
    with torch.no_grad():
        module.weight[1, 2] = value
    checkpoints.save(module, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x.safetensors do not fit Linear \(NaN or infinite: weight\)"):
        checkpoints.load(nn.Linear(3, 2), tmp_path / "x.safetensors")


# --- Product vocabularies: their table is stored by its parts. -----------------------------------------

PRODUCT = replace(SMALL, codes=12, colour_codes=3, colour_dim=4)


@pytest.mark.parametrize("bits", [32, 16, 8])
def test_a_product_table_is_stored_by_its_parts(tmp_path, bits):
    shapes, colours = torch.randn(4, 6), torch.randn(3, 4)
    table = torch.stack([torch.cat([shape, colour]) for shape in shapes for colour in colours])
    for module in (XLxmert(PRODUCT, table), PairClassifier(XLxmert(PRODUCT, table))):
        checkpoints.save(module, tmp_path / "m.safetensors", bits=bits)
        with safe_open(tmp_path / "m.safetensors", "pt") as file:
            stored = {
                k.rpartition("centroids")[2]: tuple(file.get_tensor(k).shape) for k in file.keys() if "centr" in k
            }  # noqa: SIM118
        assert stored == {".shapes": (4, 6), ".colours": (3, 4)}
        again = XLxmert(PRODUCT) if isinstance(module, XLxmert) else PairClassifier(XLxmert(PRODUCT))
        checkpoints.load(again, tmp_path / "m.safetensors")
        own = again if isinstance(again, XLxmert) else again.model
        near = own.centroids - (table.half() if bits == 16 else table)
        assert float(near.abs().max()) <= (0.02 if bits == 8 else 0)


def test_whole_tables_stay_whole_and_open(tmp_path):
    """Of a file that was written before there were parts, of a table that is no product, and of one without colours."""
    for config in (PRODUCT, SMALL):
        model = XLxmert(config, torch.randn(config.codes, 10))
        checkpoints.save(model, tmp_path / "m.safetensors")
        with safe_open(tmp_path / "m.safetensors", "pt") as file:
            assert torch.equal(file.get_tensor("centroids"), model.centroids)
        again = XLxmert(config)
        checkpoints.load(again, tmp_path / "m.safetensors")
        assert torch.equal(again.centroids, model.centroids)


def test_one_part_alone_is_refused(tmp_path):
    state = XLxmert(PRODUCT, torch.zeros(12, 10)).state_dict()
    del state["centroids"]
    save_file(state | {"centroids.shapes": torch.zeros(4, 6)}, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"missing: centroids; unexpected: centroids\.shapes"):
        checkpoints.load(XLxmert(PRODUCT), tmp_path / "m.safetensors")
