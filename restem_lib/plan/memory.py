"""Bytes of memory that training and sampling take, by arithmetic alone."""

from __future__ import annotations

import math

from restem_lib.plan.cost_model import GRADIENT_BYTES, Cluster, Draw, Machine, Pace, Training
from restem_lib.plan.shapes import Shape

STATE_BYTES = 16
"""Bytes a trained parameter: float32 weight, gradient and the two averages of AdamW."""
BUCKET_BYTES = 4
"""More of them with DDP, which copies gradients into buckets to exchange them."""
ACTIVATION_BYTES = 34
"""Bytes a token, layer and hidden unit that the backward pass needs, attention being fused; 2 with checkpointing."""
LOGIT_BYTES = 10
"""Bytes a target token and vocabulary entry: logits, their float32 copy, their gradient."""


def training_memory(shape: Shape, cluster: Cluster, work: Training) -> float:
    """Bytes on the fullest GPU: the first, which also holds the candidate. The best one is in main memory."""
    width = cluster.machine.width
    trained = shape.adapters(work.lora) if work.lora else shape.parameters
    states = float(trained * STATE_BYTES + (shape.parameters * 4 if work.lora else 0))
    candidate = shape.parameters * width
    part = max(shape.head_weights, shape.layer_weights / shape.layers)
    if work.sharded:
        states /= cluster.gpus
        # Of the largest part that is gathered: weights, their gradients, the float32 copy that is summed.
        cast = part * (width if work.lora else 2 * width + GRADIENT_BYTES)
    else:
        states += trained * BUCKET_BYTES if cluster.gpus > 1 else 0
        # autocast keeps copies of what is trained; copies of frozen weights go with the layer's activations.
        copied = part if work.lora and work.checkpointing else shape.parameters
        cast = 0 if width == 4 else copied * width
    micro = min(work.micro, math.ceil(work.batch / cluster.gpus))
    tokens = micro * work.longest
    layers = 1 + 2 / ACTIVATION_BYTES * shape.layers if work.checkpointing else shape.layers
    activations = tokens * shape.hidden * ACTIVATION_BYTES * layers
    logits = micro * work.target * shape.vocab * LOGIT_BYTES
    return states + candidate + cast + activations + logits


def main_memory(shape: Shape, cluster: Cluster) -> float:
    """Bytes of main memory on the node that trains: all processes load float32 weights before those go to GPUs.

    What stays there later is less: the best candidate, and with FSDP the gathered weights.
    """
    return 4 * shape.parameters * cluster.gpus


def sampling_memory(shape: Shape, machine: Machine, draw: Draw, pace: Pace) -> float:
    """Bytes of weights, of keys and values at their longest, and of the logits of a step."""
    rows = min(draw.rows, draw.prompts * draw.n)
    own = draw.longest + (draw.prompt / draw.n if pace.shares else draw.prompt)
    cache = shape.cache(machine.width) * (draw.shared + rows * own)
    return shape.parameters * machine.width + cache + rows * shape.vocab * LOGIT_BYTES
