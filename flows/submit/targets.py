"""All targets of `aai submit`."""

from flows.submit.kuberay import KUBERAY
from flows.submit.ray import RAY
from flows.submit.skypilot import SKYPILOT
from flows.submit.slurm import SLURM, SLURM_ARRAY
from flows.submit.target import Target

TARGETS: dict[str, Target] = {target.name: target for target in (SLURM, SLURM_ARRAY, RAY, KUBERAY, SKYPILOT)}
"""Targets by name."""
