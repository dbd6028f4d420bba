"""Tables, figures and a page from stored results. No TensorFlow.

From a notebook: ``plot_rate``, ``plot_against``, ``plot_bler`` and ``paper_tables``.
"""

from pvsc_link.report.notebook import paper_tables, plot_against, plot_bler, plot_rate

__all__ = ["paper_tables", "plot_against", "plot_bler", "plot_rate"]
