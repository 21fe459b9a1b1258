"""Data sets as the chapters and the recipes of train/ see them: one object each, one file each.

What an object gives is said in ``base.py``. A new data set is one new file beside ``storybook.py`` and ``coco.py`` and
one line here.
"""

import os

from xlxmert_core.data.files import DataError
from xlxmert_core.datasets.base import DataSet
from xlxmert_core.datasets.catalogue import Catalogue
from xlxmert_core.datasets.coco import Coco
from xlxmert_core.datasets.junior import Junior
from xlxmert_core.datasets.storybook import Storybook
from xlxmert_core.datasets.wide import Wide
from xlxmert_core.files import typed_path

DATASETS = {"storybook": Storybook, "junior": Junior, "wide": Wide, "coco": Coco, "catalogue": Catalogue}


def open_dataset(name: str, folder: str | os.PathLike) -> DataSet:
    """The data set called ``name``, in the folder that its setting names, else in ``folder``.

    Raises DataError for an unknown name.
    """
    if name not in DATASETS:
        raise DataError(f"There is no data set {name!r}; known: {', '.join(DATASETS)}.")
    kind = DATASETS[name]
    return kind(typed_path(os.environ[kind.setting]) if os.environ.get(kind.setting) else folder)
