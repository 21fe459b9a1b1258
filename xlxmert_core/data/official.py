"""The official annotation formats, written: COCO captions, VQA v2, NLVR2 and LXMERT's aggregated list.

Pictures go by whole numbers. ``files`` maps each to the name of its file, ``texts`` to its (caption, facts) pairs and
``asked`` to its (question, answer, kind) triples.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Files = Mapping[int, str]
Texts = Mapping[int, Sequence[tuple[str, Sequence]]]
Questions = Mapping[int, Sequence[tuple[str, str, str]]]


def captions(name: str, files: Files, texts: Texts, sides: Mapping[int, int]) -> dict:
    """COCO captions of the data set ``name``, square pictures of these sides; each annotation has our "facts" too."""
    images = [{"id": i, "file_name": files[i], "width": sides[i], "height": sides[i]} for i in texts]
    annotations = [
        {"id": i * 10 + index, "image_id": i, "caption": text, "facts": facts}
        for i, those in texts.items()
        for index, (text, facts) in enumerate(those)
    ]
    return {"info": {"description": name}, "images": images, "annotations": annotations}


def vqa(name: str, split: str, asked: Questions) -> dict[str, dict]:
    """VQA v2's two files by their paths; "question_type" is our kind of question, and the ten people agree."""
    low = name.lower()
    head = {"info": {"description": name}, "data_type": low, "data_subtype": split}
    rows = [(i * 100 + n, i, question) for i, those in asked.items() for n, question in enumerate(those)]
    texts = [{"image_id": i, "question": text, "question_id": n} for n, i, (text, _, _) in rows]
    annotations = [
        {
            "question_id": n,
            "image_id": i,
            "question_type": kind,
            "answer_type": _answer_type(answer),
            "multiple_choice_answer": answer,
            "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": k} for k in range(1, 11)],
        }
        for n, i, (_, answer, kind) in rows
    ]
    return {
        f"vqa/v2_OpenEnded_{low}_{split}_questions.json": head | {"task_type": "Open-Ended", "questions": texts},
        f"vqa/v2_{low}_{split}_annotations.json": head | {"annotations": annotations},
    }


def _answer_type(answer: str) -> str:
    return "yes/no" if answer in ("yes", "no") else "number" if answer.isdigit() else "other"


def nlvr2(identifier: str, sentence: str, truth: bool, files: Files, left: int, right: int) -> dict:
    """One row of NLVR2's; "left_image" and "right_image" are the pictures' numbers."""
    row = {"identifier": identifier, "sentence": sentence, "label": str(truth)}
    row |= {"left_url": files[left], "right_url": files[right]}
    return row | {"left_image": left, "right_image": right}


def lxmert(files: Files, texts: Texts, asked: Questions) -> list[dict]:
    """LXMERT's aggregated rows: all sentences of a picture, and the answers of its questions."""
    return [
        {
            "img_id": Path(files[i]).stem,
            "labelf": {"vqa": [{answer: 1.0} for _, answer, _ in asked[i]]},
            "sentf": {"mscoco": [text for text, _ in those], "vqa": [text for text, _, _ in asked[i]]},
        }
        for i, those in texts.items()
    ]


def write(folder: Path, files: Mapping[str, Any], statements: Mapping[str, Sequence[dict]]) -> None:
    """JSON files by their paths in ``folder``, and JSON lines, as NLVR2 has them."""
    texts = {path: json.dumps(value) + "\n" for path, value in files.items()}
    texts |= {path: "".join(json.dumps(row) + "\n" for row in rows) for path, rows in statements.items()}
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
