"""Base of every layer of the room: one frozen config instead of its fields four times."""

from typing import Any

import keras

from pvsc_link.semantic.presets import PvscConfig


class ConfiguredLayer(keras.layers.Layer):
    """A Keras layer whose constructor and ``get_config`` carry one ``PvscConfig``.

    Parameters
    ----------
    config : PvscConfig, or the dict that ``PvscConfig.to_dict`` gives
    kwargs : ``name``, ``dtype``, ``trainable`` of ``keras.layers.Layer``
    """

    def __init__(self, config: PvscConfig | dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config if isinstance(config, PvscConfig) else PvscConfig.from_dict(config)

    def _shape(self, channels: int) -> tuple[int | None, ...]:
        """Shape of a feature map of ``channels``; convolutions need no more to build."""
        return (None, None, None, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}
