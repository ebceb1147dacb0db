"""Reading a page."""

from html.parser import HTMLParser


class Elements(HTMLParser):
    """Which elements a browser sees, and what stands in each kind."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
