"""Gives the documentation the project's URLs, which pyproject.toml alone holds."""

import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from mkdocs.config.defaults import MkDocsConfig

PLACEHOLDER = "example.org"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set what is filled in; a placeholder gives no link."""
    project = tomllib.loads(
        Path(config.config_file_path or "").with_name("pyproject.toml").read_text("utf-8")
    )
    for name, key in (("Documentation", "site_url"), ("Repository", "repo_url")):
        url = project["project"]["urls"][name]
        if urlsplit(url).hostname != PLACEHOLDER:
            config[key] = url
    return config
