"""Tables, figures and a page from stored results. No TensorFlow.

From a notebook: ``plot_rate``, ``plot_against``, ``plot_bler`` and ``paper_tables``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
