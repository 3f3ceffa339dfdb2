"""Parses blocks of code: JSON lines of language and code in, the broken ones out."""

import json
import sys

import tree_sitter_dart
import tree_sitter_kotlin
import tree_sitter_swift
from tree_sitter import Language, Parser

LANGUAGES = {"dart": tree_sitter_dart, "kotlin": tree_sitter_kotlin, "swift": tree_sitter_swift}


def faults(node):
    if node.is_error or node.is_missing:
        yield node
    elif node.has_error:
        for child in node.children:
            yield from faults(child)


for line in sys.stdin:
    block = json.loads(line)
    language = Language(LANGUAGES[block["language"]].language())
    tree = Parser(language).parse(block["code"].encode())
    for node in faults(tree.root_node):
        print(f"{block['place']}, line {node.start_point.row + 1} of the block: {node.text.decode()!r}")
