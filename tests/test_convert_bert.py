"""BERT becomes the language side of the model: the same hidden states, and everything else is named."""

import re

import pytest
import torch
from transformers import BertConfig, BertForPreTraining

from xlxmert_core.config import ModelConfig
from xlxmert_core.foreign.convert import from_bert, initialise_from_bert
from xlxmert_core.model import XLxmert

SMALL = ModelConfig(
    vocab_size=40, hidden=24, heads=3, feed_forward=40, language_layers=2, visual_layers=1,
    cross_layers=1, positions=16, codes=11, feature_dim=10, grid=3, answers=7,
)  # fmt: skip


@pytest.fixture(scope="module")
def bert():
    """A small BERT with random weights, four layers deep."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=24, num_attention_heads=3, intermediate_size=40, num_hidden_layers=4,
        max_position_embeddings=16,
    )  # fmt: skip
    model = BertForPreTraining(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value += 0.3 * torch.randn(value.shape)
    return model


def saved(bert, folder, form: str):
    """The ways in which BERT's weights lie about: safetensors, a .bin with the old names, a file of many GPUs."""
    if form == "safetensors":
        bert.save_pretrained(folder)
        return folder / "model.safetensors"
    state = bert.state_dict()
    if form == "gamma and beta":
        state = {re.sub("LayerNorm.weight$", "LayerNorm.gamma", k): v for k, v in state.items()}
        state = {re.sub("LayerNorm.bias$", "LayerNorm.beta", k): v for k, v in state.items()}
        state |= {"bert.embeddings.position_ids": torch.arange(16)[None]}
    if form == "many GPUs":
        state = {f"module.{k}": v for k, v in state.items()}
    torch.save(state, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:Left out")
@pytest.mark.parametrize("form", ["safetensors", "gamma and beta", "many GPUs"])
def test_the_language_side_says_what_bert_says(bert, tmp_path, form):
    model = XLxmert(SMALL).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    random = initialise_from_bert(model, saved(bert, tmp_path, form))
    words, mask = torch.randint(40, (3, 9)), torch.arange(9) < torch.tensor([9, 4, 6])[:, None]
    want = bert.bert(words, attention_mask=mask.long(), output_hidden_states=True)
    ours, theirs = model.encode_text(words, mask), want.hidden_states[2]
    assert (ours - theirs)[mask].abs().max() <= 1e-5
    assert (ours - want.hidden_states[3])[mask].abs().max() > 0.1  # no other layer's
    assert torch.allclose(model.word_logits(theirs), bert.cls.predictions(theirs), atol=1e-4)
    assert torch.allclose(torch.tanh(model.pooler(theirs[:, 0])), bert.bert.pooler(theirs), atol=1e-5)
    pooled = bert.bert.pooler(theirs)
    assert torch.allclose(model.match_logits(pooled), bert.cls.seq_relationship(pooled), atol=1e-5)
    kept = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {*random, "centroids"}
    parts = ("cell_embedding.", "encoder.visual.", "encoder.cross.", "code_", "answer_head.", "mask_feature")
    assert all(name.startswith(parts) for name in random)


def test_what_has_no_place_is_named(bert, tmp_path):
    with pytest.warns(UserWarning, match=r"Left out encoder.layer.2, encoder.layer.3 \(32 tensors\): the model has 2"):
        from_bert(bert.state_dict(), layers=2)
    with pytest.warns(UserWarning, match="Left out bert.embeddings.position_ids: the numbers 0, 1, 2 and so on"):
        from_bert(bert.state_dict() | {"bert.embeddings.position_ids": torch.arange(16)[None]}, layers=4)
    with pytest.raises(ValueError, match="no BERT that this book knows: unexpected bert.encoder.r_layers.0.output"):
        from_bert({"bert.encoder.r_layers.0.output.dense.bias": torch.zeros(1)})
    with pytest.raises(ValueError, match="decoder.bias differs from its tied copy"):
        from_bert(bert.state_dict() | {"cls.predictions.decoder.bias": torch.zeros(40)}, layers=4)


@pytest.mark.filterwarnings("ignore:Left out")
def test_a_bare_bert_leaves_the_heads_random(bert, tmp_path):
    state = {k.removeprefix("bert."): v for k, v in bert.state_dict().items() if k.startswith("bert.")}
    torch.save(state, tmp_path / "bert.pth")
    random = initialise_from_bert(XLxmert(SMALL), tmp_path / "bert.pth")
    assert {"word_transform.dense.weight", "word_bias", "match_head.bias"} <= set(random)
    assert "pooler.weight" not in random


@pytest.mark.filterwarnings("ignore:Left out")
def test_a_bert_of_another_size_changes_nothing(bert, tmp_path):
    path = saved(bert, tmp_path, "safetensors")
    for change, message in {
        ("vocab_size", 41): r"wrong shape: .*word_embedding.words.weight \[40, 24\] instead of \[41, 24\]",
        ("language_layers", 5): r"missing: encoder.language.4.attention",
    }.items():
        model = XLxmert(ModelConfig(**{**vars(SMALL), change[0]: change[1]}))
        before = {k: v.clone() for k, v in model.state_dict().items()}
        with pytest.raises(ValueError, match=message):
            initialise_from_bert(model, path)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(FileNotFoundError, match="bert.pth is not there"):
        initialise_from_bert(XLxmert(SMALL), tmp_path / "bert.pth")


def test_at_paper_scale_every_parameter_of_the_language_side_is_filled():
    with torch.device("meta"):
        state = BertForPreTraining(BertConfig()).state_dict()
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    with pytest.warns(UserWarning, match=r"encoder.layer.9, encoder.layer.10, encoder.layer.11 \(48 tensors\)"):
        ours = from_bert({k: v for k, v in state.items() if k not in tied})
    with torch.device("meta"):
        own = XLxmert(ModelConfig()).state_dict()
    parts = ("word_", "encoder.language.", "pooler.", "match_head.")
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in own.items() if k.startswith(parts)}
