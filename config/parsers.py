"""What REST framework reads bodies with."""

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class BoundedJSON(JSONParser):
    """JSON as deep as Python reads it: what is deeper is the caller's fault, and said to be."""

    def parse(self, stream, media_type=None, parser_context=None):
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("the body is JSON that is nested too deeply") from None
