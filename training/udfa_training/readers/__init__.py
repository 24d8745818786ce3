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

NAMED_BY_THE_USER = (*nnunet.FORMS, *corrections.FORMS, *pairs.FORMS)
"""Forms whose case names are the user's own, so that a pattern may say which part is the patient."""

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
                _check_options(form, options or ReaderOptions())
                return form.read(source, options or ReaderOptions())
    problem = "does not exist" if not source.exists() else f"is no {kind or 'known'} data set"
    wanted = "\n".join(f"  {form.kind}: {form.description}" for form in forms)
    raise InvalidInputError(f"{source} {problem}. A source holds one of:\n{wanted}")


def _check_options(form: Form, options: ReaderOptions) -> None:
    """Raise InvalidInputError for options that a form does not read: they would be passed over in silence."""
    if options.patient_pattern and form not in NAMED_BY_THE_USER:
        raise InvalidInputError(f"{form.kind} names its patients itself ({form.description}): omit --patient-pattern.")
    if options.label_order and form not in transunet.FORMS:
        raise InvalidInputError(f"--label-order is for TransUNet's arrays; the source holds {form.description}.")
