"""Operators of torchvision, declared where it is of another build than torch: it cannot be imported without.

Nothing calls them. This runs before transformers or laion_clap is imported.
"""

import torch


def declare() -> torch.library.Library:
    """Declare the operators that importing torchvision looks for; they go with the result."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
