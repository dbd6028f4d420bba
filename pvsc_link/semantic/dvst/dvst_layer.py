"""Base of the layers that only DVST has."""

from typing import Any

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.dc_block import DepthConvStack
from pvsc_link.semantic.dvst.presets import DvstConfig


class DvstLayer(ConfiguredLayer):
    """A layer with one ``DvstConfig``, and the policies of the layers inside it.

    Parameters: ``config`` : DvstConfig, or the dict that ``DvstConfig.to_dict`` gives.
    """

    config_type = DvstConfig

    @property
    def _own(self) -> dict[str, Any]:
        return {"dtype": self.dtype_policy}

    @property
    def _blocks(self) -> dict[str, Any]:
        return {**self._own, "zero_init": self.config.zero_init_residual}

    def _stack(self, channels: int, depth: int, name: str) -> DepthConvStack:
        return DepthConvStack(channels, depth, name=name, **self._blocks)
