"""How far one answer agrees with another: with the right one, or with another model's."""

from domain.contracts import TaskContract


def agreement_of(contract: TaskContract, *, input_json: str, output_json: str, other_json: str) -> float | None:
    """The agreement of two outputs for one input, 0 to 1, by the task's comparator, which reads words alone: nothing here embeds.

    None where they cannot be compared: the task has no comparator or refuses this input, one of the three no longer keeps the contract, or the
    comparator trips over what it is given.
    """
    if contract.comparator is None:
        return None
    try:
        asked = contract.input.model_validate_json(input_json)
        answers = [contract.output.model_validate_json(text) for text in (output_json, other_json)]
        if contract.comparator.refusal(asked) is not None:
            return None
        return contract.comparator.compare(asked, answers).matrix[0][1]
    except Exception:  # noqa: BLE001 - the contract may have changed; an output that keeps the contract may still be unlike any that a comparator was made for
        return None
