"""Reporting: the paper's tables, figures and the HTML report."""
