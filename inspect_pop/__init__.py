"""Inspection of Package-on-Package solder joints: from a machine's export to a yield record."""

__version__ = "0.1.0"
