"""Holds each file of deploy/ to its platform's schema, and each schema to refusing what is wrong.

A validator that takes everything would pass every file, so each file is also broken on purpose (a field misspelt, a value
of another type) and must then be refused.
"""

import copy
import enum
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
    definitions = {name: _from_discovery(schema) for name, schema in schemas.items()}
    _validate(document, {"$ref": "#/definitions/Service", "definitions": definitions})


def _closed(schema: Any) -> Any:
    """The same JSON Schema, taking no unknown field."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


def _validate(document: Any, schema: Any) -> None:
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(document))
    if errors:
        raise Refused("; ".join(f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors))


def check_knative(document: Any) -> None:
    """Knative's Service, by models that are made from its CustomResourceDefinition."""
    _validate(document, _closed(knative.Service.model_json_schema(by_alias=True)))


AZURE_PLAIN = {"str": str, "int": int, "float": (int, float), "bool": bool}


def _check_azure_value(value: Any, kind: str, path: str) -> None:
    """`kind` as Microsoft's clients write it: a plain type, a model, `[kind]` for lists, `{kind}` for maps."""
    if kind.startswith("["):
        if not isinstance(value, list):
            raise Refused(f"{path} must be a list")
        for index, item in enumerate(value):
            _check_azure_value(item, kind[1:-1], f"{path}.{index}")
    elif kind.startswith("{"):
        for key, item in value.items():
            _check_azure_value(item, kind[1:-1], f"{path}.{key}")
    elif kind in AZURE_PLAIN:
        mistaken = isinstance(value, bool) and kind != "bool"
        if mistaken or not isinstance(value, AZURE_PLAIN[kind]):
            raise Refused(f"{path} must be {kind}, is {value!r}")
    elif isinstance(model := getattr(azure, kind), enum.EnumMeta):
        if value not in [member.value for member in model]:
            raise Refused(f"{path} must be one of {list(model)}, is {value!r}")
    else:
        _check_azure_model(value, model, path)


def _check_azure_model(given: Any, model: Any, path: str) -> None:
    if not isinstance(given, dict):
        raise Refused(f"{path} must be a {model.__name__}")
    # "properties.template" is a field of the model that lies two levels deep in the file
    fields = {entry["key"]: entry["type"] for entry in model._attribute_map.values()}
    for key, value in given.items():
        nested = {name.removeprefix(f"{key}."): kind for name, kind in fields.items() if name.startswith(f"{key}.")}
        if key in fields:
            _check_azure_value(value, fields[key], f"{path}.{key}")
        elif nested:
            for inner, item in value.items():
                if inner not in nested:
                    raise Refused(f"unknown field {path}.{key}.{inner}")
                _check_azure_value(item, nested[inner], f"{path}.{key}.{inner}")
        else:
            raise Refused(f"unknown field {path}.{key}")


def check_azure(document: Any) -> None:
    """Azure's ContainerApp, as Microsoft's own management client describes it."""
    _check_azure_model(document, azure.ContainerApp, "app")


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
