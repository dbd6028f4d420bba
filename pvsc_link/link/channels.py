"""``pvsc_link.channels``: the channel objects that a program gives to layers and links by name.

Each of them follows ``pvsc_link.link.Channel``::

    from pvsc_link import CodedLink, channels
    channel = channels.BlockFading("rayleigh", csi_nmse_db=-20.0, equalizer="lmmse")
    bits_hat, block_ok = CodedLink(11, channel)(bits, snr_db=6.0, seed=1)
"""

from pvsc_link.link.flat_fading import Awgn as Awgn
from pvsc_link.link.flat_fading import BlockFading as BlockFading
from pvsc_link.link.impairments import Impaired as Impaired
from pvsc_link.link.ofdm import OfdmChannel as OfdmChannel
from pvsc_link.link.sionna_channel import SionnaChannel as SionnaChannel

__all__ = ["Awgn", "BlockFading", "Impaired", "OfdmChannel", "SionnaChannel"]
