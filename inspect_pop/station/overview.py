"""`GET /docs`: the OpenAPI page for a person, self-contained; a line has no network to load a viewer from."""

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

__all__ = ["router"]

router = APIRouter()
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}code{font-size:1.05em}"
    "td{text-align:left;vertical-align:top;padding:.3rem 1rem .3rem 0}"
    "h2{margin-top:2rem;border-top:1px solid #ccc;padding-top:1rem}"
)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Every operation with its answers."""
    told = request.app.openapi()
    parts = [_operation(m, p, o) for p, methods in told["paths"].items() for m, o in methods.items()]
    head = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(told['info']['title'])}</title><style>{STYLE}</style>"
    )
    intro = (
        f"<h1>{escape(told['info']['title'])} {escape(told['info']['version'])}</h1><p>{escape(told['info']['description'])}</p>"
    )
    machine = "<p>For machines: <a href=openapi.json>openapi.json</a>.</p>"
    return HTMLResponse(head + intro + machine + "".join(parts) + "</html>")


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(status)}</code><td>{escape(answer['description'])}"
        for status, answer in sorted(operation["responses"].items())
    )
    kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in operation.get("requestBody", {}).get("content", {}))
    body = f"<p>Body: {kinds}</p>" if kinds else ""
    title = f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2>"
    return f"{title}<p>{escape(operation.get('description', ''))}</p>{body}<table>{rows}</table>"
