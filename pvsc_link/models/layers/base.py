"""Base of every layer of the room: one frozen config instead of its fields four times."""

from typing import Any, ClassVar

import keras

from pvsc_link.models.pvsc.config import PvscConfig


class ConfiguredLayer(keras.layers.Layer):
    """A Keras layer whose constructor and ``get_config`` carry one config.

    Parameters
    ----------
    config : ``config_type`` (PvscConfig, where a subclass says no other), or its ``to_dict``
    kwargs : ``name``, ``dtype``, ``trainable`` of ``keras.layers.Layer``
    """

    config_type: ClassVar[Any] = PvscConfig

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(**kwargs)
        own = isinstance(config, self.config_type)
        self.config = config if own else self.config_type.from_dict(config)

    def _shape(self, channels: int) -> tuple[int | None, ...]:
        """Shape of a feature map of ``channels``; convolutions need no more to build."""
        return (None, None, None, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}
