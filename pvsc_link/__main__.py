"""``python -m pvsc_link``: the command ``pvsc-link`` where no scripts are installed."""

import sys

from pvsc_link.commands import main

if __name__ == "__main__":
    sys.exit(main())
