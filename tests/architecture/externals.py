"""A contract type for import-linter: which third-party packages a package may import, all others being forbidden."""

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class ExternalsContract(Contract):
    """The source packages import the standard library, the project, and the named third-party packages directly; nothing else."""

    type_name = "externals"

    source_modules = fields.ListField(subfield=fields.StringField())
    allowed_externals = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Looks at every direct import of the source packages."""
        allowed: Any = self.allowed_externals
        foreign: list[tuple[str, str]] = []
        for package in self.source_modules:  # type: ignore[attr-defined]  # a field descriptor becomes a list when the contract is made
            for module in sorted({package, *graph.find_descendants(package)}):
                imported = graph.find_modules_directly_imported_by(module)
                foreign += [
                    (module, name)
                    for name in sorted(imported)
                    if graph.is_module_squashed(name) and name.partition(".")[0] not in sys.stdlib_module_names and name not in allowed
                ]
        return ContractCheck(kept=not foreign, metadata={"foreign": foreign})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Prints each import that is not allowed."""
        for module, name in check.metadata["foreign"]:
            output.print_error(f"{module} is not allowed to import {name}")
