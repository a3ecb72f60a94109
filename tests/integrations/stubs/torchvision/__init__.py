"""Stands in for torchvision, which ultralytics wants installed and uses, in training, for one function."""

from types import SimpleNamespace
from typing import Any

__version__ = "0.28.0"


def _nms(boxes: Any, scores: Any, threshold: float) -> Any:
    from ultralytics.utils.nms import TorchNMS

    return TorchNMS.nms(boxes, scores, threshold)


ops = SimpleNamespace(nms=_nms)
