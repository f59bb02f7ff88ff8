"""The libraries of the pages, taken from installed packages: DataTables of itables, Vega of vl-convert.

Both come as modules of JavaScript, which a browser refuses to load from the disk. Here they become plain scripts.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata, resources

from bench.errors import UserError
from bench.website.charts import VEGA_LITE

_PACKAGES = {"itables": "DataTables (tables) and jQuery", "vl-convert-python": "Vega, Vega-Lite and Vega-Embed (plots)"}
_EXPORTS = re.compile(r"\bexport\s*\{([^{}]*)\};?(?=\s*(?:/\*.*\*/\s*)?$)", re.DOTALL)  # comments may follow


def datatables() -> tuple[str, str]:
    """(script, style sheet) of DataTables; the script sets `DataTable`.

    Raises:
        UserError: the installed itables is built in another way.
    """
    folder = resources.files("itables") / "html"
    module = (folder / "dt_bundle.js").read_text(encoding="utf-8")
    found = _EXPORTS.search(module)
    name = re.search(r"([\w$]+) as default\b", found[1]) if found else None
    if found is None or name is None:
        raise UserError(
            f"itables {metadata.version('itables')} ships DataTables in a way that is not known here. "
            "Type: pip install --constraint constraints.txt itables"
        )
    plain = f"{module[: found.start()]}window.DataTable = {name[1]};\n{module[found.end() :]}"
    style = (folder / "dt_bundle.css").read_text(encoding="utf-8")
    return f"(() => {{{plain}\n}})();\n", style


@cache
def vega() -> str:
    """The script of Vega, Vega-Lite and Vega-Embed; it sets `vegaEmbed`."""
    import vl_convert

    module = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return f"(() => {{{module}\n}})();\n"


def licences() -> str:
    """What the licences of these packages ask to be handed on."""
    parts = []
    for package, what in _PACKAGES.items():
        files = metadata.files(package) or []
        texts = [file.read_text() for file in files if re.search(r"licen[cs]e", file.name, re.IGNORECASE)]
        title = f"{what}, as shipped by {package} {metadata.version(package)}"
        parts.append("\n\n".join([title, "=" * len(title), *texts]))
    return "\n\n".join(parts) + "\n"
