"""What a model is, in a few lines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn


def parameters(*modules: nn.Module | None) -> str:
    """How many numbers these modules learned: "3.4 million parameters"."""
    return counted_in_words(sum(p.numel() for module in modules if module is not None for p in module.parameters()))


def counted_in_words(count: int) -> str:
    """A number of parameters as one says it."""
    if count < 100_000:
        return f"{count} parameters"
    return f"{count / 1e6:.1f} million parameters" if count < 1e8 else f"{count / 1e6:.0f} million parameters"


def pipeline_lines(pipeline: Any) -> str:
    """A pipeline in a few lines: parameters, cells, codes and words; what it paints; its skills; where it came from."""
    config, generator, eye = pipeline.model.config, pipeline.generator, pipeline.encoder
    codes = f"{config.codes} codes" if config.codes else "no codes, so it reads and does not paint"
    lines = {
        "transformer": f"{parameters(pipeline.model)}; {config.grid} x {config.grid} cells, {codes}, "
                       f"{pipeline.tokenizer.size} words",
        "generator": "none, so it makes no pictures" if generator is None else
                     f"{parameters(generator)}; pictures of {pipeline.image_size} x {pipeline.image_size} pixels",
        "eye": "none, so codes or features stand for pictures" if eye is None else
               f"{parameters(eye)}; {config.feature_dim} numbers a cell",
        "skills": skills_line(pipeline.skills),
        "from": pipeline.source,
    }  # fmt: skip
    return "\n".join(["Pipeline", *(f"  {name:<12}{what}" for name, what in lines.items())])


def skill_line(skill: Any) -> str:
    """A fine-tuned model in one line."""
    about = "two pictures" if hasattr(skill.model, "model") else "one picture"
    return f"Skill: {says(skill.answers)} about {about}, {skill.tokenizer.size} words, {parameters(skill.model)}"


def says(answers: Sequence[str]) -> str:
    """What a skill says: one of its answers, or a caption where these are the lengths that it may have."""
    lengths = all(answer.isdigit() for answer in answers)
    return f"{len(answers)} answers" if answers and not lengths else "sentences"


def origin(folder: Path, shipped: Path) -> str:
    """Where a pipeline came from that was opened from a folder; ``shipped`` is that of the shipped weights."""
    return f"the shipped weights {folder.name!r}" if folder.parent == shipped else f"the folder {folder}"


def skills_line(skills: Mapping[str, Any]) -> str:
    """The fine-tuned models by name."""
    found = [f"{name} ({says(skill.answers)})" for name, skill in skills.items()]
    return ", ".join(found) or "none; it captions and answers as it was pretrained"
