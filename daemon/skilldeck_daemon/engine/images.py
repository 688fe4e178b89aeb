"""Pictures of a request, as engines read them."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

from skilldeck_shared.errors import BadRequest


def read_image(url: str, longest: int) -> Any:
    """The picture of a data URL in RGB, no side longer than `longest` pixels. Raises BadRequest."""
    from PIL import Image, ImageOps

    try:
        data = base64.b64decode(url.partition(",")[2], validate=True)
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        image.thumbnail((longest, longest))
        return image.convert("RGB")
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadRequest(
            f"An image cannot be read: {error}.", "Send PNG, JPEG, WebP or GIF as a data URL.", param="input"
        ) from error
