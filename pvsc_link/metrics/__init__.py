"""How good a received video is and what it cost: quality metrics, CBR, BD-CBR, intervals."""

from pvsc_link.metrics.registry import METRICS, MetricType

__all__ = ["METRICS", "MetricType"]
