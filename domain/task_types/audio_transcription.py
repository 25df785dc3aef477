"""Writes down what is said in a recording."""

from typing import Annotated

from pydantic import Field, StringConstraints

from domain.agreement.word_errors import WordErrors
from domain.contracts import AudioInput, Contract, Example

Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]


class Input(Contract):
    """One recording, and the language that is spoken in it, if you know."""

    audio: AudioInput
    language: Language | None = Field(default=None, description="ISO 639-1 (or 639-3); found out from the recording if left out.")


class Segment(Contract):
    """A stretch of speech."""

    start_s: Annotated[float, Field(ge=0.0)]
    end_s: Annotated[float, Field(ge=0.0)]
    text: str


class Output(Contract):
    """What was said, in which language, and when; empty where nobody speaks."""

    text: str
    language: str
    duration_s: Annotated[float, Field(ge=0.0)] | None = Field(description="Of the recording; null where a remote model does not say.")
    segments: list[Segment]


# Opus in Ogg: "The water turns the wheel.", spoken by SVOX Pico.
_WATER = (
    "T2dnUwACAAAAAAAAAACTAvvaAAAAAAWENPUBE09wdXNIZWFkAQE4AYA+AAAAAABPZ2dTAAAAAAAAAAAAAJMC+9oBAAAAKFQ8ZAE2T3B1c1RhZ3MNAAAATGF2ZjYyLjEyLjEwMgEAAAAV"
    "AAAAZW5jb2Rlcj1MYXZmNjIuMTIuMTAyT2dnUwAAeMAAAAAAAACTAvvaAgAAAPdqvYwRYG5vfFZThlhhaXxOb2hncXRYIvopXh1KUORg4vO41WmRIz1LZ+MOGDZOlgyHrfK8uxnu6e2x"
    "bLHixM1Nl9Zsi1hVFazKa321pZ/6Gvye2lkK2b5hGj6r9DJW6/WdhN/IwFSpH5tMfmDm0+LJIv9HiXBY4HSYXX1Z66e1jzk1lPiyjwPtkO0ygqSyradad/28FClSqiarfuXhaDYuIYBW"
    "SebZuyFX4Q/mHPtJ5ISpvMbC6Z4daS8H5VZ4cIJrwV69oKXjjNbSFopcc+8LGVCUYparA/x3cRiC3IjGBFBAUFjr8OG6A5WONkwhTN0v0m6rTO/O7Lfl5I+zsqCSG6LygmWWIDGGRf8q"
    "NLlqtb705BwmuUqV8nwijO9+6m0Vs+Hy2ROUznKCzqf6CjMKoK31TzbUkADw5csvyaNlylrRxGqNMGdh47mOwYd1s5FoQFjoV5iFA2JcRLzhB1VOpYdT3UfyZcL2NnD7pun8JNkKa2Sj"
    "OQeTXSklXCfaFVvmLe4d75WLYBiancX5TVep6D2AL9sQBq//pnMvuMiCiVXq+gtCmEasV1oWzRMmeGc8Gw5ySJVfI0u7Pk251Uctq7I9v0PFj7pgPDcWSdNY7gTaZfmXjgd9BvLKlh7Y"
    "SamYR8rXbNA+65PklW6xSaJBF/cFD9DHbyLACbWOZ1am8wArX2TJ9PQmR6KI4wsX1PSGsZcCyHhJkRqL0bug3NC7se05gFjuLQJbrY+iY3mV/vMpnWmhhc7Gs8NKLNTXr5rSkyO9k1Pr"
    "i6qtRquALMCot3ikRdMXWSfQEUvIgzZ0guZFg6xc66u0XcIf/vIwQFDktm+ztkvIWO2sqhSLMLJ9QWdXjAP/FNXLpTBiFVwAdZ+mcLRTH+uHNfJE4CCuvI8YVbj8E1b9qc+Sx5WtW43h"
    "f6Ts99G/7rgqIYgSUEXSiW0woijzx3zjKhTkn02xui23qGQMYHGl6P/ylDGHTavbCE5UBNjhMOGEXDU+qFdu0mrnMwpbWEx7N05/6sBY7OaUySSIZ93HrhlA0QV9OBF2k1GASUDOkPWY"
    "e2ii3fs/xMcRMOwCIXGr7dXPqDReF4/A5cGHvno5C0nmdTaTrcvubQ46cqhbNCtMZIEoGuLD+ykmzqZ0WMuilisKWINPnjdeLYJiYVYSQtKMROtsDX8IvTxvf+jzzeNc6fJQ8gTzGWXm"
    "r+hF/ktlDEl5f3qckw0K5cmouC1QSzhVNcWutNPXHpIzF+qSQq8+lhDDXB9sKmBWwoD5QFjinsTGLS0NENBXE4XEaUvedpWX6VGOFs5iO2crbSM7wdfAJcRpUZDZad8pEij7UwMWQ7HH"
    "JtFbucCarLMN8cSFIrV0CASaSnxhV0jzPN1CqbVCCkDwPkZSDvyWnsOej6COTDBMD8pQCVjk3urHqkAXddhouSiO2L3e471pzFSgJVMXkdHz2742bc1UZwCcpn1WRUH+R9cdlSFQJltm"
    "SdTF20MojUqFH8Y0DXR2ChLfcAE344axvKAJhQrILao3pTTD0974Ph0uP26bonPW6QAgXE3YR+CULgumA30Wc/1JHG27eeBY7biFagK8Rjh7WPANvMOeiKLsXIjgZVwj6U+E7hwNELSI"
    "c8x/leQmxkNQJj/rdeC2MZTtG5OCahzEsrlZWKmN0ZuDVTxE2l4qO1ySn6BY7GKe7YjkmxBJVpV5j1Az44dqducRCUOnfsxUMJt6cgwwUQgSwq12r3gkSPn68QmTdns/nTH+S3TMoN68"
    "DHnL63AlpVAhIeLvmM4SMl/BEe9CIboHbb9xGvVZTC8opRxmwxHthKQSpEs0NwQ94yBY6fjoaVhm/VwKeDcOwVXVhAfC1E1y/XlcGLqf4S3l08CukcuuZvfXnGmQknNeW1332h+m+NAM"
    "rS68mz0enwPXobYaAd0cj2Vf3ZlB0jEQCF4R4MN0EBdbfYFHTfNtACV57pzIzl6ukljEwbCuiyxWCyKbLKomcsCuYz5rhBXsgHHsTJOIwdFV2bYCstZrm5ZjR3y3L57KGGCpKbitvrEb"
    "yrSgiLHNAv4ERE0mz1ES2uXKGilZVRrVuohYzvqeBxn8mBtim/4SBt1WRxEvfiBY4ugk4E22m/15o7AC8CEu9UxOMHS8wrfNCI/Ta7JIK684wP7ryPuDzfy1DAeNhKjNATT1KVsYhgtv"
    "F7oXNfVAMRKDvrWLw2dPSsYYiVehDWdUE5iQ1Xy8PwsDMtIsA0gH7Q5SStthrW4k32pLrx1d21jrlzLrLQ0ck/uQu0L4NDyBSeFuYD9dv5uMj14SyNeoCey9kt3D0SNlRILX72fzCSap"
    "AKO/whighV/j8+868hXUrryUIwaYf7oVQvzZqSqXhbW20ebM3dwuTwr4GGM+024sG7s1bev+bGtPzKMz3Pz/P+EqT2dnUwAEsCoBAAAAAACTAvvaAwAAAPWJY0QKd4dSeWRcZVg5Mljn"
    "p/J/8rCWFrioHbQdxZND6fJVM1ZWZVmtb8vFYliYGIGrq1Lxp6MQSLQqluA/JOU8Uh9f1jJ3R2oaZLjmjFCEU4JLlnrTuVJRvVdlJruRb4FCBZwNY1F8dtol9ySPf9gI2KsHpK1Fggb2"
    "z/BWoyY1WrKIwJ+dWOuteIt4Aq5p61dHCenke4wRVaxscp3SW3EoYZK/fcQ+21LIXSNfppQclgX9TY55Tbz2rcuB//jveNk4HFmrgN8oln2kkTFkiLdDD/1WYP26h5ubRmZtN8SP8s2W"
    "tcgMVu/xSbgQUxZbVPx3p47qZLl5hu646gkKhZ3UopwzBB3VOswE9h4YWOzxBZkHjOU+AVqHOAtdAv/4GsOS0S4kT04yA/11Aj3xLwdehKw4rbuWFfcKoQX+5sGHrpbEDHXvXyP3wqm0"
    "oOr6aBf546b42pGFQb+vaQNhwFjscWqZXrJMvjzGtYDEkYe/5sZOOQw+ycBWP1e+XbazO+JaZPsZGegbxtvd12SQootSMmOOpWnsub5YccZ8S5Kvte9Qx8DyGSbTIs7GryRakFBqxerr"
    "ifjfb4n2ApBAaKJHCHO1S0kjgPLmkHe+PhDEw/YyfHVjy4BY7IxnB0vLKInmzqNuJnXWoGd2ntTKpQcNo9RFPYUBfiBg3k4sv5mZMIVycKOtKfFZbAZn5h2hfPHUfg1K6TOIqnuktxBp"
    "tsWu9bp8JRHgdgxf8xZd///G89JAb9+9a33cz/ZkWOzyTIVi5GqKt0GeGGThnlq4KD0AVzNluoIYqseFqjvoKN7VZ3QZNkmHSK/GfI/CaH2BCtlHL1koL2Iid8e2rZd4IKme8Nbe9lNU"
    "ZJok0n447/l+7ogJyzFtpt5Y6j23R4YeYDBfXgHOl1nrJwn9Cw6ToX8V3kWHN6TsTbpXYzqeXs4YgPxxpeQxa0WA5tp3btjDPqV9BQpzs8BBUH7JJzxoXT8m6E4U17z4pM7ovsKBcZNj"
    "0jhVCGFBaObzI9cZQFiH2ca25ffe+yH/2nDZKn3ke46L1yAw+j7eXJFa9K8Oa4hGgOrYHr7D/x5uNX9hKOYuzQm7mSQO943Iybd2wjXtBnc4Q/Se5NEoKkXVGzoUev32/ohrRZBYAOwW"
    "kgrFBifiQQj13mon28i7frdC6qChpE5QNQ2S4luwwvhWcSQ5AK5oQu16XpTM8GEeSZyXEIBYBvJz3NHAioDNEGfNptELTZbif0pG4vbhO/nP0N2Q1baPJ8dheNNUYS2wub+auYUgLA=="
)

EXAMPLES = (Example("A sentence", {"audio": {"base64": _WATER, "content_type": "audio/ogg"}, "language": "en"}),)

COMPARATOR = WordErrors(lambda output: output.text)
