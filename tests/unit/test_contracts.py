from typing import Any

import pytest
from pydantic import ValidationError

from domain.contracts import AudioInput, Base64Input, Contract, FileInput, ImageInput, Media, UrlInput, media_fields
from domain.media import MediaKind


class Input(Contract):
    image: Media
    mask: ImageInput | None = None
    voice: AudioInput | None = None
    text: str = ""


def test_media_fields_names_binary_fields_alone_and_their_kinds() -> None:
    assert media_fields(Input) == {"image": None, "mask": MediaKind.IMAGE, "voice": MediaKind.AUDIO}


@pytest.mark.parametrize(
    ("value", "kind"),
    [({"file_id": "file_01"}, FileInput), ({"base64": "AA==", "content_type": "image/png"}, Base64Input), ({"url": "https://example.com/a.png"}, UrlInput)],
)
def test_media_takes_one_of_three_forms(value: dict[str, Any], kind: type[Contract]) -> None:
    assert isinstance(Input.model_validate({"image": value}).image, kind)


@pytest.mark.parametrize("value", [{}, {"file_id": "a", "url": "https://example.com"}, {"base64": ""}, "file_01", {"path": "/etc/passwd"}])
def test_media_of_another_form_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        Input.model_validate({"image": value})
