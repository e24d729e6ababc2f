"""One page of HTML that needs nothing else: no scripts, no requests, plots inside."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from effbert.runtime.errors import MissingDependencyError
from effbert.runtime.report.content import Findings
from effbert.runtime.report.figures import DARK, LIGHT, Plot, plots_of, render
from effbert.runtime.report.sections import sections_of

INSTALL = 'A report needs matplotlib and jinja2; install them with: pip install "effbert[report]".'


def require_libraries() -> None:
    """Find out before a long run whether a page can be made.

    Raises:
        MissingDependencyError: Matplotlib or jinja2 is not installed.
    """
    try:
        import jinja2
        import matplotlib as mpl
    except ImportError as error:
        raise MissingDependencyError(INSTALL) from error
    del jinja2, mpl


def write_page(findings: Findings) -> str:
    """Write the page.

    Everything that comes from the bundle or the data is escaped. The policy in its head lets a
    browser load nothing but the plots inside, and use no style but the page's own, by its hash.
    Each plot is there twice, for light and for dark screens; paper gets the light one.

    Args:
        findings: What it says.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    style = _text("page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_text("page.html"))
    return template.render(
        findings=findings,
        sections=sections_of(findings),
        plots={plot.name: _embedded(plot) for plot in plots_of(findings)},
        style=Markup(style),  # our own file
        style_hash=f"sha256-{digest}",
    )


def _text(name: str) -> str:
    return files("effbert.runtime.report").joinpath(name).read_text(encoding="utf-8")


def _embedded(plot: Plot) -> dict[str, Any]:
    light, dark = (
        "data:image/svg+xml;base64," + base64.b64encode(render(plot, theme, "svg")).decode()
        for theme in (LIGHT, DARK)
    )
    return {"alt": plot.alt, "light": light, "dark": dark}
