"""Readers of data sets in the forms in which they are distributed; each module lists the forms it reads in `FORMS`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from udfa.errors import InvalidInputError
from udfa_training.readers import (
    acdc,
    acdc_arrays,
    btcv,
    corrections,
    nnunet,
    pairs,
    sunnybrook,
    totalsegmentator,
    transunet,
)
from udfa_training.readers.source import Form, ReaderOptions, SourceData

FORMS: tuple[Form, ...] = (
    *btcv.FORMS,
    *transunet.FORMS,
    *acdc.FORMS,
    *acdc_arrays.FORMS,
    *nnunet.FORMS,
    *sunnybrook.FORMS,
    *totalsegmentator.FORMS,
    *corrections.FORMS,
    *pairs.FORMS,
)
"""All forms; the first that fits is taken."""

KINDS = tuple(dict.fromkeys(form.kind for form in FORMS))
"""Kinds of data sets that `read_source` knows."""


def read_source(source: Path, kind: Optional[str] = None, options: Optional[ReaderOptions] = None) -> SourceData:
    """Describe a source folder.

    Args:
        source: The folder.
        kind: One of `KINDS`; None takes the first form that fits among those that show their kind.
        options: What the user says about the source.

    Raises:
        InvalidInputError: The folder is not there, it is of no known form, or it cannot be used as a whole.
    """
    forms = [form for form in FORMS if form.kind == kind or (kind is None and not form.must_be_named)]
    if source.is_dir():
        for form in forms:
            if form.found(source):
                return form.read(source, options or ReaderOptions())
    problem = "does not exist" if not source.exists() else f"is no {kind or 'known'} data set"
    wanted = "\n".join(f"  {form.kind}: {form.description}" for form in forms)
    raise InvalidInputError(f"{source} {problem}. A source holds one of:\n{wanted}")
