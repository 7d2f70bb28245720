"""YAML as configurations need it: strict, without dates, and small before anything is made of it."""

from __future__ import annotations

import re
from typing import Any

import yaml

from mlanet.errors import ConfigError

MOST_BYTES = 2**18
"""Of a file; a configuration has some kilobytes."""
MOST_VALUES = 10_000
"""Of all lists and mappings together, those that aliases repeat counted again."""
DEEPEST = 32
"""Lists and mappings inside each other."""


class _StrictLoader(yaml.SafeLoader):
    """YAML without its traps.

    A repeated key is an error, `1e-3` is a number, a date is text. Whatever cannot be a value is a `ConfigError` that
    names the line. Depth and number of values are bounded while the text is read, before values are made of it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._count = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        line = event.start_mark.line + 1
        self._depth += 1
        self._count += 1
        if self._depth > DEEPEST:
            raise ConfigError(f"line {line}: more than {DEEPEST} lists or mappings inside each other")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent) and isinstance(node, yaml.CollectionNode) and id(node) not in self._sizes:
            raise ConfigError(f"line {line}: an alias that contains itself")
        if self._count > MOST_VALUES or (node is not None and self._size(node) > MOST_VALUES):
            raise ConfigError(f"line {line}: more than {MOST_VALUES} values, those that aliases repeat included")
        return node

    def _size(self, node: yaml.Node) -> int:
        """How many values a node stands for, its aliases written out."""
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) not in self._sizes:
            inner = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
            self._sizes[id(node)] = 1 + sum(map(self._size, inner))
        return self._sizes[id(node)]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"line {key_node.start_mark.line + 1}: a key must be a word, not a list or mapping")
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise ConfigError(f"line {key_node.start_mark.line + 1}: key '{key}' stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ConfigError, yaml.YAMLError):
            raise
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError):
            text = node.value if isinstance(node, yaml.ScalarNode) else type(node).__name__
            kind = node.tag.rpartition(":")[2]
            shown = text if len(text) <= 40 else f"{text[:37]}..."
            raise ConfigError(f"line {node.start_mark.line + 1}: '{shown}' cannot be read as {kind}") from None


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def value_of(text: str) -> Any:
    """What a YAML text says.

    Raises:
        ConfigError: no YAML, or more of it than a configuration needs; names the line.

    >>> value_of("lr: 1e-3")
    {'lr': 0.001}
    """
    if len(text) > MOST_BYTES:
        raise ConfigError(f"{len(text)} characters, expected at most {MOST_BYTES}")
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError("not valid YAML: too many lists or mappings inside each other") from None
