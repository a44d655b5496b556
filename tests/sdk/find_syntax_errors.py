"""Parses Swift and Kotlin sources with tree-sitter's grammars: what can be said of them where no compiler is.

Takes files and folders; prints FILE:LINE for each place no rule of the grammar fits, then how many files.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import tree_sitter_kotlin
import tree_sitter_swift
from tree_sitter import Language, Node, Parser

PARSERS = {
    ".swift": Parser(Language(tree_sitter_swift.language())),
    ".kt": Parser(Language(tree_sitter_kotlin.language())),
}


def sources(arguments: list[str]) -> Iterator[Path]:
    for argument in map(Path, arguments):
        files = sorted(argument.rglob("*")) if argument.is_dir() else [argument]
        yield from (file for file in files if file.suffix in PARSERS)


def faults(node: Node) -> Iterator[Node]:
    if node.is_error or node.is_missing:
        yield node
    elif node.has_error:
        for child in node.children:
            yield from faults(child)


count = 0
for source in sources(sys.argv[1:]):
    tree = PARSERS[source.suffix].parse(source.read_bytes())
    for fault in faults(tree.root_node):
        print(f"{source}:{fault.start_point.row + 1}")
    count += 1
print(f"{count} files")
