"""Render chat templates: the only code of this package that runs a template."""
