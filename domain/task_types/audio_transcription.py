"""Writes down what is said in a recording."""

from typing import Annotated

from pydantic import Field, StringConstraints

from domain.contracts import Contract, Example, Media

Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]


class Input(Contract):
    """One recording, and the language that is spoken in it, if you know."""

    audio: Media
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
    duration_s: Annotated[float, Field(ge=0.0, description="Of the recording.")]
    segments: list[Segment]


# 2.3 s, Opus in Ogg, 1.8 kB: "A mill pond holds water back.", spoken by SVOX Pico (voice en-GB).
_A_MILL_POND = (
    "T2dnUwACAAAAAAAAAABFZaXhAAAAAHsXyTYBE09wdXNIZWFkAQE4AYA+AAAAAABPZ2dTAAAAAAAAAAAAAEVlpeEBAAAAX2x74gE2T3B1c1RhZ3MNAAAATGF2ZjYyLjEyLjEwMgEAAAAV"
    "AAAAZW5jb2Rlcj1MYXZmNjIuMTIuMTAyT2dnUwAAeMAAAAAAAABFZaXhAgAAANdX6TIRIzEoKy4vICk4LC0vLTAsMB8YIvofSoYcSsMx7L93k37/rWzUTCUiO/6yU+2WOmAEnCB84Bju"
    "la2S35UH0sQo5h+fjZWzHQf7XJKU/KtVDEU8XuM2OfYOrFscqgRGP2GQsX2HTHYY7PSTFZ+ft4/7YJuXVk+pFEYKfj25NXZA5alvb4kOV5HF6LNj1y5AGOzpZdfnwQfzSQDYGor5waZE"
    "DL8jGd52ULifGwc/6tvWiTWUOC3rozBngBjuZfuHXiZjfiqieQKQCFCWwCeq2Jb+tg/iq5EVngF2z3bQfbr3KaEw6BN7psAY7Ud6kjrlUx/wFLy+kO0qf1A/RV5u53gPBpd81OS6pJIH"
    "iuglH8cwd5mZFanYqBiA0YXbg62DVgSXCRu1tkG6b9aeMN7Hkfe0jIWBIMLsGOA0ikup7U5IQ0S4zA8u98vkmXfVKokr05wgfzTBYk0BK1QUlEq3DPwY7RT9ULix+3KxpU0U923na6Xe"
    "51ctwHme5GKp/VZeTw7iUL/ytkLvg8nGYeR6hm+ofp0rcbndWBjtuIsrsPeMS6ZfKGUeBCzr3m5aCKgUT1fUA6f+xiyP7YNritjSvvmPajxHGOzsLQTzUTapYyv8fsuY7tXKPCXd9ZTo"
    "1jqeByrS6D24NbzM/L8IFXQIZB+AGO5ONf3vEet1wZ+NGIC+Kb6ofrR37bZkmvfn9u9lJNlXl0Vez3p1nKiSoF41G4AY4VFDYw2r/HQ9t0wcrz2FCnE5hNAaE8fsvU9aGZHUk7PvZ0ll"
    "tF/QYdJw/v4Y7o8XS9muNdQSK9nK3bEzFDgcW92glZPIfLHtuxj7ikqWizNmMnzCGHc2e5CZtrgY7a/zthSrJCQFWuIFOzSjPa9F+2utjnFyjm3z9XmMxBKWeEE8aF1B4l7f0BjtQ0dW"
    "6/dJCK9DZ1eztk031zXRRECV9zAq6T5fA7e39scqaPW6DhyCGRl83qnVsBhhjIQ4+tspSVrYB5SOfk4z7hIFxAlf5jeVBc6SfjBPZ2dTAAC4fwEAAAAAAEVlpeEDAAAA/7nQThEuNyQq"
    "LjInKScqJCEiHBUOGRjg5rxmVV12Ze+HS7FW6gRFvDI7YrBLT4qc7bOkhEUd/8Y9gT/3+8JZutUpzNAY7KUSMp/OaaUkkfexKZcnnyibMEJyoKkYXbIsTsa3PN8rMy0zffM4EZShnL4B"
    "MvcGvud4zxVqGO8CIHm66BOBh7W+fvGkQsTSsjFHszfWcp8K9wOM2PzAUYAiGO7iTQ/ySY3voG/aoKIEGZXNEn0fNaw5pnGitgbMhkBvBfo10uqLo/fpGOQANya5iWoOXWtE34vDPm5Q"
    "C6f8s/o8nj0S0HBYXZbZN4+c4LP+uCqI224TwBjvBU0gqw19rIN2UN5FTkY2ppjPu6/yO01B+xt/nNR21psLWsWWrfBzUR0oLS3YVJixGMnI+7VAhtVv1JiAG5EHGOh712Iad/Q1SE/b"
    "LVXwFqBq7QSTEduAGOBFlwWKEgvu2cDmQdNsk4Cy+O/QYwemEyn+YQvyqU/aWj8wpHMsY3AY7y7JtyxQxUAhRDOCX7XQ8oG8oTdlsABesvtGQGD/YXhIOPSjRnwY7v6gej0iGFVKZO3D"
    "JzKNG0gYE0wf69N6bbW2pZCAk7AdRex7Og7E6o4YzsHXp0Ks07lILkfFQ6HvYAe+3Nzs4EBr6CJfNuSi0/kqvtYYYSJWB8mSCh7kzO9Rie9cFsV2vrHcW/czH2FnBBE5WqAY4OkTze7m"
    "wuyCTQC/WjzlDaLK+qR15voxOAcFTZ6B+yAoGIN7Ud+y2hiDC9swJSgHWT1ygc9Bq+feoYfKgBgBFEVXp56Xjn31cl9+Ij+yoH26wBgCKyzDjNgL1wW2vRDSGAIySdne5dIlNbOyLArv"
    "lnFDuqiwkrFNwE9nZ1MABDC5AQAAAAAARWWl4QQAAACSwYJpBhodHB0dDhgDMsHUyjZflgDZN0eC6DsQYmafvKHLbo4gGAI4dBA4ANP2GFnVCyVNYViE8ytgB2/uQS3cZ9gYBD3sZnEE"
    "8IZnRZBdVcSFhVhvNAXGgarlQdiAGAA058Xw4/0ss2f4UO31dMSvHiEa0767Lw85YNMYACxnSHr8DeKxunhhj6GlNbefFWO/FkfHxOepkhgCKyzDjNgL1wW2vRDS"
)

EXAMPLES = (Example("A sentence", {"audio": {"base64": _A_MILL_POND, "content_type": "audio/ogg"}, "language": "en"}),)
