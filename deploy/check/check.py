"""Holds each file of deploy/ to its platform's schema, and each schema to refusing what is wrong.

A validator that takes everything would pass every file, so each file is also broken on purpose (a field misspelt, a value
of another type) and must then be refused.
"""

import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import googleapiclient
import jsonschema
import yaml
from azure.mgmt.appcontainers import models as azure
from cloudcoil.models.knative_serving.serving import v1 as knative

DEPLOY = Path(__file__).parent.parent


class Refused(Exception):
    """A file that does not fit its platform's schema."""


def _from_discovery(schema: Any) -> Any:
    """A schema of Google's discovery format as JSON Schema that takes no unknown field."""
    if isinstance(schema, list):
        return [_from_discovery(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref":
            converted[key] = f"#/definitions/{value}"
        elif key == "properties":
            converted[key] = {name: _from_discovery(inner) for name, inner in value.items()}
            converted.setdefault("additionalProperties", False)
        elif key in ("type", "items", "additionalProperties", "enum"):
            converted[key] = _from_discovery(value)
    if converted.get("type") == "any":
        del converted["type"]
    return converted


def check_cloud_run(document: Any) -> None:
    """Cloud Run's Service as Google's own API client describes it (namespaces.services, v1)."""
    path = Path(googleapiclient.__file__).parent / "discovery_cache/documents/run.v1.json"
    schemas = json.loads(path.read_text())["schemas"]
    schema = {"$ref": "#/definitions/Service", "definitions": _from_discovery_all(schemas)}
    errors = list(jsonschema.Draft7Validator(schema).iter_errors(document))
    if errors:
        raise Refused("; ".join(f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors))


def _from_discovery_all(schemas: dict[str, Any]) -> dict[str, Any]:
    return {name: _from_discovery(schema) for name, schema in schemas.items()}


def _unknown_fields(given: Any, taken: Any, path: str = "") -> list[str]:
    """What a file says that a model did not take up."""
    if isinstance(given, dict) and isinstance(taken, dict):
        return [
            name
            for key, value in given.items()
            for name in (
                _unknown_fields(value, taken[key], f"{path}.{key}") if key in taken else [f"{path}.{key}"]
            )
        ]
    if isinstance(given, list) and isinstance(taken, list):
        return [
            name
            for index, (one, other) in enumerate(zip(given, taken, strict=True))
            for name in _unknown_fields(one, other, f"{path}.{index}")
        ]
    return []


def check_knative(document: Any) -> None:
    """Knative's Service, as models made from its CustomResourceDefinition describe it."""
    try:
        service = knative.Service.model_validate(document)
    except ValueError as error:
        raise Refused(str(error)) from error
    unknown = _unknown_fields(document, service.model_dump(mode="json", by_alias=True))
    if unknown:
        raise Refused(f"unknown fields {unknown}")


def _check_azure_model(given: Any, model: type, path: str) -> None:
    fields = {field._rest_name: field for field in model._attr_to_rest_field.values()}
    for key, value in given.items():
        if key not in fields:
            raise Refused(f"unknown field {path}.{key}")
        _check_azure_value(value, model, key, f"{path}.{key}")


def _check_azure_value(value: Any, model: type, key: str, path: str) -> None:
    attribute = next(
        name for name, field in model._attr_to_rest_field.items() if field._rest_name == key
    )
    annotation = _azure_annotation(model, attribute)
    inner = [name for name in dir(azure) if f"models.{name}" in annotation.replace("_models.", "models.")]
    inner = [name for name in inner if f".{name}]" in annotation + "]" or f".{name}'" in annotation]
    if isinstance(value, dict) and inner:
        _check_azure_model(value, getattr(azure, inner[0]), path)
    elif isinstance(value, list) and inner:
        for index, item in enumerate(value):
            if isinstance(item, dict):
                _check_azure_model(item, getattr(azure, inner[0]), f"{path}.{index}")
    for name, kinds in (("int", int), ("float", (int, float)), ("bool", bool)):
        plain = annotation in (name, f"Optional[{name}]", f"typing.Optional[{name}]")
        if plain and (not isinstance(value, kinds) or (name != "bool" and isinstance(value, bool))):
            raise Refused(f"{path} must be {name}, is {value!r}")


def _azure_annotation(model: type, attribute: str) -> str:
    for owner in model.__mro__:
        if attribute in getattr(owner, "__annotations__", {}):
            annotation = owner.__annotations__[attribute]
            return annotation if isinstance(annotation, str) else str(annotation).replace("ForwardRef", "")
    raise Refused(f"{model.__name__} does not describe {attribute}")


def check_azure(document: Any) -> None:
    """Azure's ContainerApp, as Microsoft's own management client describes it."""
    _check_azure_model(document, azure.ContainerApp, "")


def check_compose(document: Any) -> None:
    """A Compose file, by the Compose specification's schema that check-jsonschema brings."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(document, file)
        file.flush()
        tool = Path(sys.executable).with_name("check-jsonschema")
        result = subprocess.run(
            [tool, "--builtin-schema", "vendor.compose-spec", file.name],
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        raise Refused(result.stdout + result.stderr)


Change = Callable[[Any], Any]


def misspelt(*path: str | int) -> Change:
    """The field at `path` gets another name."""

    def change(document: Any) -> Any:
        *parents, last = path
        for key in parents:
            document = document[key]
        document[f"{last}x"] = document.pop(last)
        return document

    return change


def replaced(value: Any, *path: str | int) -> Change:
    """The field at `path` gets another value."""

    def change(document: Any) -> Any:
        *parents, last = path
        for key in parents:
            document = document[key]
        document[last] = value
        return document

    return change


CONTAINER = ("spec", "template", "spec", "containers", 0)
SERVICE = ("services", "service")
FILES: dict[str, tuple[Callable[[Any], None], list[Change]]] = {
    "cloud_run.yaml": (
        check_cloud_run,
        [
            misspelt(*CONTAINER, "startupProbe", "httpGet"),
            misspelt("spec", "template", "spec", "nodeSelector"),
            replaced("many", "spec", "template", "spec", "containerConcurrency"),
        ],
    ),
    "knative.yaml": (
        check_knative,
        [
            misspelt(*CONTAINER, "securityContext", "readOnlyRootFilesystem"),
            misspelt("spec", "template", "spec", "runtimeClassName"),
            replaced("many", "spec", "template", "spec", "containerConcurrency"),
        ],
    ),
    "azure_container_apps.yaml": (
        check_azure,
        [
            misspelt("properties", "template", "scale", "minReplicas"),
            misspelt("properties", "template", "containers", 0, "probes", 0, "httpGet"),
            replaced("none", "properties", "template", "scale", "minReplicas"),
        ],
    ),
    "compose.yaml": (
        check_compose,
        [misspelt(*SERVICE, "read_only"), replaced([3], "services", "database", "healthcheck", "retries")],
    ),
    "compose.gpu.yaml": (
        check_compose,
        [misspelt(*SERVICE, "deploy", "resources", "reservations"), replaced(3, *SERVICE, "build")],
    ),
}


def main() -> int:
    faults = 0
    for name, (check, changes) in FILES.items():
        document = yaml.safe_load((DEPLOY / name).read_text())
        try:
            check(document)
            print(f"ok      {name}")
        except Refused as error:
            faults += 1
            print(f"FAILED  {name}: {error}")
        for number, change in enumerate(changes):
            broken = copy.deepcopy(document)
            change(broken)
            try:
                check(broken)
            except Refused:
                continue
            faults += 1
            print(f"FAILED  {name}: its schema takes the broken file number {number}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
