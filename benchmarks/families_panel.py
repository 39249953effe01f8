"""The panel: small models of Hugging Face types, by what they read."""

from __future__ import annotations

from families_configs import Family
from families_decoders import DECODERS
from families_encoders import ENCODERS
from families_further import FURTHER
from families_hybrids import HYBRIDS
from families_latest import LATEST
from families_more import MORE
from families_others import OTHERS
from families_pictures import PICTURES
from families_seen import SEEN

PANEL: tuple[Family, ...] = (
    *DECODERS,
    *HYBRIDS,
    *ENCODERS,
    *PICTURES,
    *OTHERS,
    *SEEN,
    *MORE,
    *FURTHER,
    *LATEST,
)
