from .request import Request as Request
from .run import transmit_video as transmit_video
