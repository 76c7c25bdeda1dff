"""One file per vendor: what its servers write, streamed, whole, refused, failing."""

from .anthropic import Anthropic
from .chat import Chat
from .cohere import Cohere
from .gemini import Gemini
from .mistral import Mistral
from .plain import Plain
from .responses import Responses
from .shape import Shape, Words

# The first that takes a request writes the answer. Mistral's path is the chat
# path, so it asks for its SDK's user agent and stands before it.
SHAPES: list[Shape] = [Mistral(), Chat(), Responses(), Anthropic(), Gemini(), Cohere(), Plain()]

__all__ = ["SHAPES", "Shape", "Words"]
