"""What the commands that train have in common: progress on the screen, bad input as one message."""

import logging
import os
import sys
from collections.abc import Callable

from pvsc_link.types import InputError


def run_logged(work: Callable[[], int]) -> int:
    """``work``'s exit status; 2 with its message where it raises ``InputError``."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%d.%m. %H:%M:%S")
    logging.getLogger("pvsc_link").setLevel(logging.INFO)
    try:
        return work()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
