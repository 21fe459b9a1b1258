"""The same code fine-tunes on real ones: 16 questions are learned by heart, nightly 64, statements and captions too.

That proves nothing about unseen ones; it proves that words, pictures and answers are wired together.
"""

import json

import numpy as np
import pytest
import torch

import xlxmert_core
from book.build.run_chapters import ROOT
from xlxmert_core import captioning, skills
from xlxmert_core.data import nlvr2, vqa
from xlxmert_core.data.coco import read_captions
from xlxmert_core.data.pictures import find_pictures
from xlxmert_core.evaluate.scores import caption_scores, nlvr2_scores, vqa_scores
from xlxmert_core.train import finetuning, loop, optimisers
from xlxmert_core.train.finetuning import fine_tune_vqa

DATA = ROOT.parent / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="no real photographs beside the clone (shared/data)"),
]


def nightly(test):
    """64 examples, and not in ``make test``."""
    return pytest.mark.nightly(pytest.mark.parametrize("count", [64], indirect=True)(test))


@pytest.fixture(scope="module")
def painter():
    return xlxmert_core.load("storybook")


@pytest.fixture(scope="module", params=[16, pytest.param(64, marks=pytest.mark.nightly)])
def count(request) -> int:
    """How many are learned."""
    return request.param


@pytest.fixture(scope="module")
def photographs(count):
    """COCO photographs with their captions."""
    return read_captions(DATA / "coco", "val2017", count)[0]


@pytest.fixture(scope="module")
def features(painter, photographs):
    return torch.from_numpy(painter.features([str(record.path) for record in photographs]))


def steps(count: int) -> int:
    """Enough to learn so many questions or statements by heart."""
    return 60 + count


def rows_of(features):
    return lambda rows: features[rows]


def subset(folder, source, count) -> tuple:
    """The first questions of an official pair of files, and their annotations, as files of their own."""
    questions, annotations = (json.loads(path.read_text()) for path in source)
    questions["questions"] = questions["questions"][:count]
    kept = {q["question_id"] for q in questions["questions"]}
    annotations["annotations"] = [a for a in annotations["annotations"] if a["question_id"] in kept]
    paths = folder / "questions.json", folder / "annotations.json"
    for path, content in zip(paths, (questions, annotations), strict=True):
        path.write_text(json.dumps(content))
    return paths


@pytest.mark.parametrize(
    ("folder", "name", "images"),
    [("vqa_v2/with_photos", "mscoco_val2014", "vqa_v2/with_photos/images"),
     pytest.param("daquar/converted", "daquar_train", "daquar/images", marks=pytest.mark.nightly)],
    ids=["vqa-v2", "daquar"],
)  # fmt: skip
def test_one_call_learns_real_questions_by_heart(tmp_path, painter, folder, name, images, count):
    given = f"v2_OpenEnded_{name}_questions.json", f"v2_{name}_annotations.json"
    files = subset(tmp_path, [DATA / folder / part for part in given], count)
    skill, _, report = fine_tune_vqa(
        painter, *files, DATA / images, steps=steps(count), batch=min(count, 32), minimum=1, progress=None
    )
    assert not report.skipped, report
    asked, pictures = vqa.read(*files), find_pictures(DATA / images)
    seen = torch.from_numpy(painter.features([str(pictures[q.images[0]]) for q in asked]))
    said = dict(zip([q.id for q in asked], skill.answer([q.text for q in asked], seen), strict=True))
    best = np.mean([max(vqa.soft_scores(q.answers).values()) for q in asked])  # what people agree on
    assert vqa_scores(asked, said)["all"] >= 0.95 * best


@nightly
def test_real_statements_about_pairs_are_learned_by_heart(painter, features, count):
    """The sample has NLVR2's sentences and labels but no pictures: photographs of COCO stand in for them."""
    told = nlvr2.read(DATA / "nlvr2" / "dev.json")[:count]
    pairs = [[i, (i + 1) % count] for i in range(count)]
    tokenizer = painter.tokenizer.extended(q.text for q in told)
    torch.manual_seed(0)
    objective = finetuning.Judging(finetuning.adopt(painter.model, tokenizer, [], ["x"]))
    labels = [{q.answer: 1.0} for q in told]
    data = finetuning.FineTuningData.build([q.text for q in told], pairs, labels, tokenizer, nlvr2.ANSWERS, 32)
    batch_at = finetuning.batches(data, rows_of(features), 32)
    loop.fit(objective, optimisers.muon(objective, 0.005, 1e-3), batch_at, steps(count))
    judged = finetuning.predict(objective, data, rows_of(features))
    said = {q.id: nlvr2.ANSWERS[i] for q, i in zip(told, judged.tolist(), strict=True)}
    assert nlvr2_scores(told, said)["all"] >= 0.95


@nightly
def test_real_captions_are_learned_by_heart(painter, photographs, features, count):
    texts = [record.captions[0] for record in photographs]
    tokenizer = painter.tokenizer.extended(texts)
    lengths = [str(n) for n in range(31)]
    torch.manual_seed(0)
    writer = finetuning.Writing(finetuning.adopt(painter.model, tokenizer, [], lengths), tokenizer)
    data = finetuning.FineTuningData.build(texts, [[i] for i in range(count)], [{}] * count, tokenizer, [], 32)
    batch_at = finetuning.batches(data, rows_of(features), 32)
    loop.fit(writer, optimisers.muon(writer, 0.005, 1e-3), batch_at, 300)
    with torch.inference_mode():
        guess = skills.length_logits(writer.model, tokenizer, features).argmax(1)
    written, _ = captioning.write_caption(writer.model, tokenizer, features, guess[:, None])
    truth = [tokenizer.decode(row) for row in data.words]
    scores = caption_scores([[t] for t in truth], written)
    assert scores["BLEU-1"] >= 0.95 and scores["ROUGE-L"] >= 0.95, scores
