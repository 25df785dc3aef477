"""Remembered values of an application, which its requests share."""

from typing import TypeVar, cast

from flask import Flask, current_app

from models.remembered import Remembered

Value = TypeVar("Value")


def remember(app: Flask, name: str, value: Remembered[Value]) -> None:
    """Keeps a remembered value with an application, so that each application (and each test) has its own."""
    app.extensions[f"millpond.{name}"] = value


def remembered(name: str, _kind: type[Value]) -> Value:
    """The current value of what ``remember`` was given under this name."""
    return cast("Remembered[Value]", current_app.extensions[f"millpond.{name}"])()
