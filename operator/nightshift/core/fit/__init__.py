"""Fit: does a model fit on some accelerators, how many requests and how long a context, and what would make it fit."""

from nightshift.core.fit.kv import Capacity, KvCache
from nightshift.core.fit.observed import CacheConfigInfo, cache_config_info, corrected, overheads_measured
from nightshift.core.fit.quantization import Accepted, Refused, check_quantization
from nightshift.core.fit.settings import EngineSettings, engine_settings
from nightshift.core.fit.suggest import Remedy, fit, remedies
from nightshift.core.fit.verdict import Budget, DoesNotFit, Fits, Hardware, Verdict, assess

__all__ = [
    "Accepted",
    "Budget",
    "CacheConfigInfo",
    "Capacity",
    "DoesNotFit",
    "EngineSettings",
    "Fits",
    "Hardware",
    "KvCache",
    "Refused",
    "Remedy",
    "Verdict",
    "assess",
    "cache_config_info",
    "check_quantization",
    "corrected",
    "engine_settings",
    "fit",
    "overheads_measured",
    "remedies",
]
