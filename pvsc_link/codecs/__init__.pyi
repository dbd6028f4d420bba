from .base import Codec as Codec
from .cache import cached_encode as cached_encode
from .concealment import MID_GREY as MID_GREY
from .concealment import frames_lost as frames_lost
from .concealment import freeze as freeze
from .registry import CODECS as CODECS
from .registry import CodecType as CodecType
