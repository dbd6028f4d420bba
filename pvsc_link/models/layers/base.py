"""Base of every layer of the room: a layer carries one config instead of its fields."""

from collections.abc import Callable
from typing import Any

import keras

from pvsc_link.models.presets import config_of

#: Wraps a function once, for instance ``tf.function``.
Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]


def as_is(function: Callable[..., Any]) -> Callable[..., Any]:
    """The compiler that leaves a function eager."""
    return function


class ConfiguredLayer(keras.layers.Layer):
    """A Keras layer whose constructor and ``get_config`` carry one config.

    Parameters
    ----------
    config : config of the layer's family, or its ``to_dict``
    kwargs : ``name``, ``dtype``, ``trainable`` of ``keras.layers.Layer``
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config_of(config) if isinstance(config, dict) else config

    def _shape(self, channels: int) -> tuple[int | None, ...]:
        """Shape of a feature map of ``channels``; convolutions need no more to build."""
        return (None, None, None, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}
