"""What label values mean in published data sets and code bases, and one spelling for every name.

Values are never passed on between data sets, only names: the same eight organs of Synapse have other values in
TransUNet's files than in EMCAD's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from udfa.errors import InvalidInputError

BTCV_LABELS = (
    "spleen",
    "right_kidney",
    "left_kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "portal_and_splenic_vein",
    "pancreas",
    "right_adrenal",
    "left_adrenal",
)
"""Values 1 to 13 of BTCV's own label files (synapse.org, syn3193805, wiki page 217789)."""

SYNAPSE_ORDERS: dict[str, tuple[str, ...]] = {
    "btcv": BTCV_LABELS,
    "transunet": (
        "aorta",
        "gallbladder",
        "left_kidney",
        "right_kidney",
        "liver",
        "pancreas",
        "spleen",
        "stomach",
    ),
    "emcad": (
        "spleen",
        "right_kidney",
        "left_kidney",
        "gallbladder",
        "pancreas",
        "liver",
        "stomach",
        "aorta",
    ),
}
"""Orders of Synapse's labels, values counting up from 1.

transunet: the eight organs in the order of the paper's table, as in the train_npz and test_vol_h5 files that
TransUNet's authors hand out; confirmed for users of these files in tljxyys/Perspective-Unet, issue 4.
emcad: SLDGroup/EMCAD reads files with BTCV's 13 values and, for nine classes, drops 5, 9, 10, 12 and 13 and moves 11
(pancreas) to 5 while loading (utils/dataset_synapse.py; names in test_synapse.py). SLDGroup/CASCADE, issue 9, tells of
a user who took one order for the other. The files as EMCAD stores them are of order "btcv".
"""

CARDIAC_LABELS = ("right_ventricle", "myocardium", "left_ventricle")
"""Values 1 to 3 of ACDC's label files (Bernard et al., IEEE TMI 2018), and of the files that others made from them."""

TOTALSEGMENTATOR_VALUES: dict[int, str] = {
    1: "spleen",
    2: "right_kidney",
    3: "left_kidney",
    4: "gallbladder",
    5: "liver",
    6: "stomach",
    7: "pancreas",
    8: "right_adrenal",
    9: "left_adrenal",
    15: "esophagus",
    52: "aorta",
    63: "inferior_vena_cava",
    64: "portal_and_splenic_vein",
}
"""The 13 abdominal organs of this project among the 117 values of TotalSegmentator's task "total", version 2
(wasserth/TotalSegmentator, totalsegmentator/map_to_binary.py)."""

TOTALSEGMENTATOR_CLASSES = 117

ALIASES: dict[str, str] = {
    "kidney_right": "right_kidney",
    "kidney_left": "left_kidney",
    "kidney_r": "right_kidney",
    "kidney_l": "left_kidney",
    "rkidney": "right_kidney",
    "lkidney": "left_kidney",
    "gall_bladder": "gallbladder",
    "oesophagus": "esophagus",
    "postcava": "inferior_vena_cava",
    "ivc": "inferior_vena_cava",
    "portal_vein_and_splenic_vein": "portal_and_splenic_vein",
    "veins": "portal_and_splenic_vein",
    "psv": "portal_and_splenic_vein",
    "adrenal_gland_right": "right_adrenal",
    "adrenal_gland_left": "left_adrenal",
    "right_adrenal_gland": "right_adrenal",
    "left_adrenal_gland": "left_adrenal",
    "radrenal": "right_adrenal",
    "ladrenal": "left_adrenal",
    "rv": "right_ventricle",
    "rv_cavity": "right_ventricle",
    "right_ventricular_cavity": "right_ventricle",
    "rvc": "right_ventricle",
    "myo": "myocardium",
    "mlv": "myocardium",
    "lv_myocardium": "myocardium",
    "left_ventricular_myocardium": "myocardium",
    "lv": "left_ventricle",
    "lv_cavity": "left_ventricle",
    "left_ventricular_cavity": "left_ventricle",
    "lvc": "left_ventricle",
}
"""Other spellings of the names in `udfa.labels`, as BTCV, AMOS, TotalSegmentator, ACDC and their nnU-Net forms use."""


def canonical_name(name: str) -> str:
    """Return a label's name in snake_case, and as `udfa.labels` spells it if it is another spelling of a known one.

    Letters of all scripts stay; how accents are encoded makes no difference.
    """
    snake = re.sub(r"[\W_]+", "_", unicodedata.normalize("NFKC", name).lower()).strip("_")
    return ALIASES.get(snake, snake)


def numbered(names: Sequence[str]) -> dict[int, str]:
    """Return value -> canonical name for names whose values count up from 1."""
    return {value: canonical_name(name) for value, name in enumerate(names, start=1)}


def in_order(values: Mapping[int, str]) -> tuple[str, ...]:
    """Return the names of a value -> name table in the order of the values, each once."""
    return tuple(dict.fromkeys(values[value] for value in sorted(values)))


def select_names(known: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the canonical form of the wanted label names.

    Raises:
        InvalidInputError: None is wanted, one is wanted twice, or one is not among the known names.
    """
    names = tuple(canonical_name(name) for name in wanted if name.strip())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidInputError(f"The data have no labels {unknown}. They have {list(known)}.")
    if not names or len(set(names)) < len(names):
        raise InvalidInputError(f"Give at least one label, and each once; got {list(names)}.")
    return names
