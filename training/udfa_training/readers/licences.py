"""Terms for weights trained on public data sets, as the manifest and then the checkpoint record them."""

from __future__ import annotations

LICENCES: dict[str, str] = {
    "synapse": "Research use only. Trained on BTCV/Synapse, whose images are available after registration only.",
    "acdc": "Non-commercial (CC BY-NC-SA 4.0 data). Trained on ACDC.",
    "mscmr": "Research use only. Trained on MS-CMRSeg 2019, whose images are available under the challenge's terms.",
    "sunnybrook": "No restrictions. Trained on the Sunnybrook Cardiac Data (public domain, CC0 1.0).",
    "totalsegmentator": "Attribution (CC BY 4.0 data). Trained on the TotalSegmentator data set.",
}
"""Kind of data set -> licence; kinds that are missing here say it themselves."""
