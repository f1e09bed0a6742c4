"""cluster.yaml passes Ray's own validation, as it stands and turned into one on premise.

No network and no AWS library is needed: Ray fills in its defaults from files.
"""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from emoray.runtime.cluster import HEAD_RESOURCE, Node, WorkerDemand, parse_scaling, total_room

REPO = Path(__file__).parents[2]
TEXT = (REPO / "cluster.yaml").read_text()
RECIPE = "#|"
"""Lines of the file's last comment that replace keys on premise."""
CLOUD_ONLY = ("head_node_type", "available_node_types", "idle_timeout_minutes")


@pytest.fixture
def config() -> dict[str, Any]:
    return copy.deepcopy(yaml.safe_load(TEXT))


def on_premise() -> dict[str, Any]:
    """The file after the steps that its last comment names."""
    changed: dict[str, Any] = yaml.safe_load(TEXT)
    for key in CLOUD_ONLY:
        assert f"`{key}`" in TEXT, "the recipe must name what it deletes"
        del changed[key]
    lines = [line[len(RECIPE) + 1 :] for line in TEXT.splitlines() if line.startswith(RECIPE)]
    recipe = yaml.safe_load("\n".join(lines))
    assert all(f"`{key}`" in TEXT for key in recipe)
    return changed | recipe


def test_the_cloud_cluster_passes_rays_validation(config: dict[str, Any]) -> None:
    validate_config(prepare_config(config))


def test_the_cluster_on_premise_passes_rays_validation() -> None:
    prepared = prepare_config(on_premise())
    validate_config(prepared)
    (kind,) = prepared["available_node_types"].values()
    assert kind["max_workers"] == len(prepared["provider"]["worker_ips"]) == 2


def test_the_validation_would_find_a_misspelt_key(config: dict[str, Any]) -> None:
    config["max_worker"] = 4
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(prepare_config(config))


def test_the_papers_four_gpu_workers_fit_and_none_runs_idle(config: dict[str, Any]) -> None:
    workers = parse_scaling(prepare_config(config)).workers
    head = config["available_node_types"][config["head_node_type"]]["resources"]
    nodes = [Node(head["CPU"], head["GPU"]), *workers]
    assert total_room(nodes, WorkerDemand(4, 7, 1)) == 4
    assert all(not kind.get("min_workers") for kind in config["available_node_types"].values())
    assert head["GPU"] == 0
    assert HEAD_RESOURCE not in head


def test_nodes_run_the_ray_and_python_that_are_tested(config: dict[str, Any]) -> None:
    constraints = (REPO / "constraints.txt").read_text()
    (version,) = re.findall(r"^ray==(\S+)$", constraints, flags=re.MULTILINE)
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    python = project["requires-python"].removeprefix(">=").replace(".", "")
    for image in (config["docker"]["head_image"], config["docker"]["worker_image"]):
        assert image.startswith(f"rayproject/ray:{version}-py{python}-")


def test_every_mounted_file_is_in_the_repository(config: dict[str, Any]) -> None:
    mounted = [f for f in config["file_mounts"].values() if not f.startswith("~")]
    assert not [f for f in mounted if not (REPO / f).is_file()]
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert {"pyproject.toml", "constraints.txt", project["readme"]} <= set(mounted)


def test_results_outlive_the_nodes(config: dict[str, Any]) -> None:
    assert any("EMORAY_STORAGE=s3://" in option for option in config["docker"]["run_options"])


def test_only_holders_of_the_token_may_run_code(config: dict[str, Any]) -> None:
    assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
