"""The official annotation formats, written: COCO captions, VQA v2, NLVR2 and LXMERT's aggregated list; all or nothing.

Pictures go by whole numbers. ``files`` maps each to the name of its file, ``texts`` to its (caption, facts) pairs and
``asked`` to its (question, answer, kind) triples.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xlxmert_core.data.files import read_json
from xlxmert_core.data.pictures import names_in
from xlxmert_core.files import write_json

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


def is_complete(folder: Path, arguments: dict, content: Callable[[Path], dict]) -> bool:
    """Whether :func:`put_in_place` has finished a folder of these arguments, and ``content`` finds all still there."""
    path = folder / "manifest.json"
    return path.is_file() and read_json(path) == arguments | {"content": content(folder)}


def check_place(folder: Path, name: str) -> None:
    """Raises FileExistsError when ``folder`` holds other files than the data set ``name``."""
    if folder.is_dir() and names_in(folder) and not (folder / "manifest.json").is_file():
        raise FileExistsError(f"{folder} holds other files: name an empty or new folder for the {name}.")


def begin_beside(folder: Path) -> Path:
    """An empty folder beside ``folder`` to write into."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def put_in_place(temporary: Path, folder: Path, arguments: dict, content: Callable[[Path], dict]) -> None:
    """Give a whole data set its manifest and its name."""
    write_json(temporary / "manifest.json", arguments | {"content": content(temporary)})
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(temporary, folder)
