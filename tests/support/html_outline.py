"""A web page as its tags and texts."""

from html.parser import HTMLParser


class Outline(HTMLParser):
    """The tags, balanced, and the text of each."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.images = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))
