"""Measure the finished world on test photographs and texts: ``python -m book.train.measure_catalogue``.

Part by part, each written down when it is done, so that whoever starts again goes on; all into measured.json in the
work folder, which model card and chapter read. Axes: M pictures, N cells, F feature width.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xlxmert_core
from book.train.gpu.networks import Aside
from book.train.gpu.reader import EACH, held_out_texts, load_reader
from book.train.world import MEASURED, World, add_places, world_of
from xlxmert_core.data import catalogue
from xlxmert_core.datasets.base import Split
from xlxmert_core.datasets.catalogue import numbers_of
from xlxmert_core.evaluate.judges import Judge, paint_and_read
from xlxmert_core.evaluate.products import ProductJudge, known, known_of
from xlxmert_core.evaluate.scenes import frechet_distance
from xlxmert_core.evaluate.scores import most_frequent, nlvr2_scores, vqa_scores
from xlxmert_core.features import extract
from xlxmert_core.files import write_json
from xlxmert_core.train import loop
from xlxmert_core.train.optimisers import adamw

PATTERNS = ("striped", "checked", "plain")
SCORES = {"vqa": vqa_scores, "nlvr2": nlvr2_scores}
PROBE = (600, 256, 2e-3)  # steps, pictures a step and learning rate of the code probe; guesses
AT_ONCE = 100  # pictures or questions
READ = ("type", "colour")  # off codes


class Probe(nn.Module):
    """Reads labels off a picture's codes alone: one linear layer an attribute on the cells' centroids [B, N * F]."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = nn.ModuleDict({f"is_{name}": nn.Linear(width, len(catalogue.LABELS[name])) for name in READ})

    def forward(self, batch: dict) -> tuple[Tensor, dict]:
        """A batch of seen [B, N * F] and labels int64 [B] -> (loss, {})."""
        losses = [F.cross_entropy(self.heads[f"is_{name}"](F.dropout(batch["seen"], 0.5, self.training)), batch[name])
                  for name in READ]  # fmt: skip
        return sum(losses[1:], losses[0]), {}


class Measurement:
    """All that is measured of a world, lazily where it takes long.

    Args:
        texts: how many test texts are painted, at most; photographs: how many test photographs are looked at.
        site: folder with the unpacked packages of weights, for the network set aside; None for no distances.
    """

    def __init__(self, world: World, texts: int | None, photographs: int | None, seeds: int, site: Path | None,
                 **settings):  # fmt: skip
        self.world, self.site, self.settings, self.seeds = world, site, settings, seeds
        self.data, self.painter = world.data(), xlxmert_core.load(world.finished)
        self.test = self.data.split("test", photographs)
        self.painted = self.test.first(texts or len(self.test))
        self.limit = photographs

    @cached_property
    def train(self) -> Split:
        """Training photographs."""
        return self.data.split("train")

    @cached_property
    def judge(self) -> ProductJudge | Judge:
        """Who reads: the run's own reader, or the data set's, trained now."""
        numbers, run = self.world.record().get("reader", {}).get("numbers", {}), self.world.run
        if (run / "reader.safetensors").is_file():
            reader = load_reader(run, "cpu", numbers["side"])
            return ProductJudge(lambda: reader)
        track = loop.Track(self.world.work / "reader.checkpoint.pt", progress="reader")
        return self.data.judge(self.train, self.data.budgets("train"), self.world.seed, track)

    @cached_property
    def aside(self) -> Aside:
        """The network set aside, for distances alone."""
        assert self.site is not None, "all() asks for no distances without it"
        return Aside().load_package(self.site)

    @cached_property
    def copies(self) -> np.ndarray:
        """Test photographs through codes and generator: uint8 [M, S, S, 3]."""
        parts = [self.test.images[i : i + AT_ONCE] for i in range(0, len(self.test), AT_ONCE)]
        return np.concatenate([self.painter.render(self.painter.encode(part)) for part in parts])

    def photographs(self) -> dict[str, float]:
        """What the reader says of real photographs; "types": the mean over the types."""
        return self._read(self.test.images)

    def reconstructions(self) -> dict[str, float]:
        """The same of what codes keep of them."""
        return self._read(self.copies)

    def _read(self, images: np.ndarray) -> dict[str, float]:
        by_type: dict[str, list[int]] = {}
        for row, record in enumerate(self.test.records):
            by_type.setdefault(known_of(record)["type"][0], []).append(row)
        each = [self.judge.paintings(images[rows], self.test.some(rows))["type"] for rows in by_type.values()]
        return self.judge.paintings(images, self.test) | {"types": float(np.mean(each)), "count": len(images)}

    def probe(self) -> dict[str, float]:
        """Type and colour read off codes alone, by linear layers that learned it on training photographs' codes."""
        known_codes, unseen = (self._centroids(split.images) for split in (self.train, self.test))
        labels = {name: torch.from_numpy(values) for name, values in numbers_of(self.train.records).items()}
        steps, size, rate = PROBE

        def batch_at(step: int, generator: torch.Generator) -> dict:
            rows = torch.randint(len(known_codes), (size,), generator=generator)
            return {"seen": known_codes[rows]} | {name: labels[name][rows] for name in READ}

        torch.manual_seed(self.world.seed)
        reader = Probe(known_codes.shape[1])
        track = loop.Track(self.world.work / "probe.checkpoint.pt", progress="code probe")
        loop.fit(reader, adamw(reader, rate, 0.05), batch_at, steps, seed=self.world.seed, track=track)
        found, truth = {}, numbers_of(self.test.records)
        with torch.inference_mode():
            for name in READ:
                said, there = reader.heads[f"is_{name}"](unseen).argmax(1).numpy(), truth[name] >= 0
                found[name] = float((said == truth[name])[there].mean())
        return found

    def _centroids(self, images: np.ndarray) -> Tensor:
        codes = self.painter.vocabulary.encode(self.painter.features(images))
        return self.painter.model.embed_codes(torch.from_numpy(codes)).flatten(1)  # [M, N * F]

    def paintings(self, seed: int) -> dict[str, float]:
        """Paintings of test texts with one seed; the first seed's also "frechet", where a network is set aside."""
        scores, images = paint_and_read(self.painter, self.judge, self.painted, (seed,), **self.settings)
        return scores | self._distance("frechet", images) | {"count": len(images)} if seed == 0 else scores

    def unseen(self) -> dict[str, float]:
        """Paintings of pairs that training never shows, all held-out pairs alike."""
        each = EACH if self.limit is None else 1
        return paint_and_read(self.painter, self.judge, held_out_texts(each), (0,), **self.settings)[0]

    def patterns(self) -> dict[str, float]:
        """How often a painting (the first seed's) shows the pattern that its test text states; "mean" of the three."""
        stated = [known(record.facts[0]).get("pattern", [""])[0] for record in self.test.records]
        found: dict[str, float] = {}
        for name in PATTERNS:
            if rows := [row for row, pattern in enumerate(stated) if pattern == name]:
                some = self.test.some(rows)
                scores = paint_and_read(self.painter, self.judge, some, (0,), **self.settings)[0]
                found |= {name: scores["pattern"], f"{name}_texts": len(rows)}
        return found | {"mean": float(np.mean([found[name] for name in PATTERNS if name in found]))}

    def captions(self) -> dict[str, float]:
        """What captions of test photographs state, and how much of it is true."""
        return self.judge.captions(self.painter.caption(self.test.images), self.test)

    def answers(self, task: str) -> dict[str, dict[str, float]]:
        """Scores by kind, "all" for the whole: the skill's, the commonest answer's, and of words learned by heart."""
        asked, learned = self.data.questions("test", self.limit), self.data.questions("train").tasks[task]
        questions, skill = asked.tasks[task], self.painter.skills[task]
        features = torch.from_numpy(self.painter.features(asked.images))
        said: list[str] = []
        for start in range(0, len(questions), AT_ONCE):
            some = questions[start : start + AT_ONCE]
            shown = features[torch.tensor([asked.rows(q) for q in some])]  # [B, P, N, F]
            said += skill.answer([q.text for q in some], shown.squeeze(1))
        given = {q.id: answer for q, answer in zip(questions, said, strict=True)}
        ways: dict[str, Mapping] = {"scores": given, "commonest": most_frequent(learned, questions),
                                    "words": most_frequent(learned, questions, words=True)}  # fmt: skip
        found = {name: SCORES[task](questions, way) for name, way in ways.items()}
        return found | {"count": {"all": len(questions)}}

    def frechet(self) -> dict[str, float]:
        """Distances to test photographs: of other photographs, as many of them, and of reconstructions."""
        others = self.data.split("held_out", len(self.test)).images
        return self._distance("others", others) | self._distance("reconstructions", self.copies)

    def _distance(self, name: str, images: np.ndarray) -> dict[str, float]:
        if self.site is None:
            return {}
        return {name: frechet_distance(extract(self.aside, images), extract(self.aside, self.test.images))}

    def parts(self) -> dict[str, Callable[[], dict]]:
        """What is measured, by its name, the quickest first."""
        found: dict[str, Callable[[], dict]] = {
            "photographs": self.photographs, "reconstructions": self.reconstructions, "captions": self.captions
        }  # fmt: skip
        found |= {task: lambda task=task: self.answers(task) for task in SCORES if task in self.painter.skills}
        found |= {"frechet": self.frechet} if self.site is not None else {}
        found |= {"probe": self.probe, "unseen": self.unseen, "patterns": self.patterns}
        if "captions" not in self.painter.skills:
            del found["captions"]
        return found | {f"paintings_{s}": lambda s=s: self.paintings(s) for s in range(self.seeds)}


def measure(made: Measurement, only: Sequence[str] = ()) -> dict:
    """Measure what is not yet in measured.json; returns all of it.

    Raises ValueError in one sentence where that is about other weights, texts or photographs.
    """
    path = made.world.work / MEASURED
    about = {"texts": len(made.painted), "photographs": len(made.test), "seeds": made.seeds, "seed": made.world.seed}
    head = {"weights": made.world.mark(), "about": about}
    numbers = json.loads(path.read_text()) if path.is_file() else dict(head)
    if head != {name: numbers.get(name) for name in head}:
        raise ValueError(f"{path} is about other weights or other texts: remove it to measure anew.")
    for name, part in made.parts().items():
        if name in numbers or (only and name not in only):
            continue
        numbers[name] = part()
        write_json(path, numbers)
        print(name, json.dumps(numbers[name]), flush=True)
    return numbers


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    parser.add_argument("--site", type=Path, help="folder with stlpips_pytorch unpacked, for distances")
    parser.add_argument("--texts", type=int, help="test texts that are painted; all")
    parser.add_argument("--photographs", type=int, help="test photographs; all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="these parts alone")
    options = parser.parse_args(arguments)
    world = world_of(options)
    measure(Measurement(world, options.texts, options.photographs, options.seeds, options.site), options.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
