"""Finds the stretches of a recording in which somebody speaks."""

from typing import Annotated

from pydantic import Field

from domain.agreement.stretches import TimeOverlap
from domain.contracts import AudioInput, Contract, Example


class Input(Contract):
    """One recording."""

    audio: AudioInput


class Segment(Contract):
    """A stretch of speech."""

    start_s: Annotated[float, Field(ge=0.0)]
    end_s: Annotated[float, Field(ge=0.0)]


class Output(Contract):
    """The stretches in order, none touching the next, and their sum; empty and 0 where nobody speaks."""

    segments: list[Segment]
    speech_s: Annotated[float, Field(ge=0.0)]


# Opus in Ogg: "The water turns the wheel.", spoken by SVOX Pico.
_WATER = (
    "T2dnUwACAAAAAAAAAAAAoA+YAAAAAHkklp0BE09wdXNIZWFkAQE4AYA+AAAAAABPZ2dTAAAAAAAAAAAAAACgD5gBAAAA6ztMyAE2T3B1c1RhZ3MNAAAATGF2ZjYyLjEyLjEwMgEAAAAV"
    "AAAAZW5jb2Rlcj1MYXZmNjIuMTIuMTAyT2dnUwAAeMAAAAAAAAAAoA+YAgAAABsocNURJEI5Nzw+Pjo0QzNBNzM6RTUYIvni0mE+bD3Zn727uPvqjZMtQKkiBf+3okEyLMI+q0+qXq4Y"
    "4FZlLARGLidXX8/Jl3rBu9gWfC7zPcvkendFofBJKb2zrOPn/gVxOfGYP+VV57VWwfwIEJea0uzKWNSeCbWeCCgY7F8hIO4eaev26tVUo2Wpbnqu4vkq723MESJgPqsCpPvKuvXgl73C"
    "pbzr0bDMMzyV1naZui+TW9AY67lDwpawVteIjx/DyAdfTYJoL5T6yYTu+GONMkwemDzI5EBgKwwalUUSYTS3Gw+IM0GKMY8QGO6iS30lz5HqjkDVlHqdW5/mOBr7IpAg+WZ8m/fScL3I"
    "AOheGrDAOhGgGVtXO244XlT/HSgYo+pD00cKGO5W4OVmXkMP0HfOFXuqUS6RdwZE4of4PiXnXicNCZzd3IOEkJsGy+4kd2dI6b1xejFzSLf6Y00SHCFKymgY4NrnhdM66oCwHJipgW8p"
    "9QWxmsrvtwmwcDvkCwQNHAikmVszY4xE2OICtROa92UdhKPhuM20JR8Tq6GSQBjuJ3E8ZbXjXTf3mNK0zvDcZBHpfw8YYYyBivHJ9XQTDuln4fM9g8XmCYd8JAECQKu3eXcP3Lrf9IAY"
    "YXZH/PgGGzdqsC1AHIC7CK0MNzgcaG0l2aHEZCfK+/bsuChyB/1Bykukb0eibOGOpDuAGOTLkH0qIVrCHyGIUPVtiL91MqVriOGuw7Xg7Q9DlSeAR58LDXYiwNUQ5ELgZshwJn9A2mrR"
    "D6G5CRyDr/AvnrO7bhjulp2HvFq9wPuDOE6mR1uVNBZFRvooAXGzgpk81XHTu3vWB13MPAScsoaB5HQzucdwaBjuK1rSOFbDmakjnSuohylkAj//4izqJgMi48OWP8ahQFhgLE48a1M5"
    "E1navJtQOpUdv+740YhYBkOqbwmOBiKgGOs2VdMEl4YPyJ1M9mO/aUrnzf8EgFLLlXz9MPLyW93iTCM+NB7Iv4L+WAs4VeTrw77iVOrkgBiKN51ynBjlPiG+ie8N55CypfFKuHOx7EDp"
    "m/pjN3r0q8WefdXHtqKHWd9JvVSTjb4kThhuf8Fxm4TNJB1vr/Wvlkek5+Su2k15jzuWGopfwoueqqx0Dgc5bXofasHN3ceTZfnSnZEbpi9uSNgY7VsSDhvGWTn7XlWC8/Fv+Eh0ciaq"
    "t5PvaGA3my36t1gSYSpn3zBUeOJAxHHP9SV9YfLH2UB37ejC9tp4xwE4pCIfkbwY7AtsLOf9wuW/tFPbx2qc/VKSIhU7zbyVTNnvnuSLxwdjTvr+RAjyGCipZE9fhEDmjDHzgE9nZ1MA"
    "BLAhAQAAAAAAAKAPmAMAAACDbGdGCTo6LzQuMSAbIRjrsVfKuaKgauUvXh6G2s0P0JYZclxmvnaLxS+iERcL/jQ7yzr2+ykQm0mvWFEymsj6r8Hi9qJayoAY7Ui72BG3Qp5OuCuOF6in"
    "oakSa/Bmlo1RjwFvZXA75uwFg7KJGkeyPrvvtR6/B2h2++6hlslt0qKiGO2nDszd97VW2uD7iG3O6aoUqyPH2iD4yy28NDDMULlLsoxNY91Qg+SJeKruENMY7WhYjmpMAKGQWQWZRrWX"
    "HcMWPL0RkcRFC6zNX9SvjhIwo/joISjP2sMIm4a/gH3gMJeAGOuud6jGrsssKqaevNKFPNBw5DABS84eUxyhcy1JsF5SPHNEXUsY5m0jR7JkCRjJe6moKbroKpntZKOsPcXN6mE3U8M8"
    "cDrUlADdY7kLPcoJGZUxfWBQw/68VyhdMcAYASFkTUmpZZlYv0nQdp8kvAr1a180URkcxoWG/DLQZhgAwbc7HcnatgoFDtc9LSG9txEBX3vUmYjiEBgAC+iYKX1tCCZChioNnFU0A62Z"
    "rIv9ObhFo8igJV5CMA=="
)

EXAMPLES = (Example("A sentence", {"audio": {"base64": _WATER, "content_type": "audio/ogg"}}),)

COMPARATOR = TimeOverlap(lambda output: [(segment.start_s, segment.end_s) for segment in output.segments])
