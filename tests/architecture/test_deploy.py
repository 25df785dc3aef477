"""docker-compose.yml and the Dockerfile say what the project needs; no engine runs here, so this is what can be seen by reading."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from cli.doctor import longest_in_worker_s
from models.sealing import Sealer
from settings import Settings, load_catalogue, load_settings
from tests.architecture.sources import CODE, ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "millpond"}
ONE_SHOT = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

# The Compose specification's keys, as far as this project may use them: a misspelt key is refused here, not on a server.
TOP_LEVEL_KEYS = {"name", "services", "volumes", "networks", "configs", "secrets"}
SERVICE_KEYS = {
    *("build", "cap_add", "cap_drop", "command", "configs", "container_name", "cpus", "deploy", "depends_on", "entrypoint", "env_file", "environment"),
    *("expose", "healthcheck", "hostname", "image", "init", "labels", "logging", "mem_limit", "networks", "pids_limit", "ports", "profiles", "pull_policy"),
    *("read_only", "restart", "secrets", "security_opt", "shm_size", "stop_grace_period", "stop_signal", "tmpfs", "ulimits", "user", "volumes", "working_dir"),
}
HEALTHCHECK_KEYS = {"test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def _seconds(duration: str) -> float:
    return sum(float(number) * {"h": 3_600, "m": 60, "s": 1}[unit] for number, unit in re.findall(r"([\d.]+)(h|m|s)", duration))


def _settings() -> set[str]:
    return {f"MILLPOND_{name.upper()}" for name in Settings.model_fields}


def test_compose_keys_are_known() -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} <= TOP_LEVEL_KEYS
    for name, service in SERVICES.items():
        assert set(service) <= SERVICE_KEYS, name
        assert set(service.get("healthcheck", {})) <= HEALTHCHECK_KEYS, name


def test_compose_has_a_worker_for_each_pool_and_a_profile_for_each_optional_one() -> None:
    catalogue = load_catalogue(load_settings({"environment": "production"}))
    workers = {service["command"][service["command"].index("--pool") + 1]: service for service in OURS.values() if service["command"][0] == "worker"}

    assert set(workers) == set(catalogue.pools)
    assert {pool: service.get("profiles") for pool, service in workers.items()} == {
        name: ["all", name] if pool.optional else None for name, pool in catalogue.pools.items()
    }


def test_compose_runs_one_process_of_each_kind() -> None:
    assert {"migrate", "models", "api", "webhooks", "maintenance"} <= set(OURS)
    assert {"postgres", "rabbitmq", "redis"} == set(SERVICES) - set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_compose_command_is_a_millpond_command(name: str) -> None:
    command = [sys.executable, "-m", "cli.main", *OURS[name]["command"], "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", OURS)
def test_compose_service_of_ours_may_do_no_more_than_it_must(name: str) -> None:
    service = OURS[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]
    assert service["init"] is True, "a process with children needs someone to reap those that lose their parent"
    assert not str(service["user"]).startswith("0")


def test_compose_every_lasting_service_has_a_health_check() -> None:
    for name, service in SERVICES.items():
        if name not in ONE_SHOT:
            assert service["healthcheck"]["test"][0] == "CMD", f"{name}: exec form, so that no shell is needed"


def test_compose_waits_for_what_can_be_waited_for() -> None:
    for name, service in SERVICES.items():
        for other, wait in service.get("depends_on", {}).items():
            condition = wait["condition"]
            assert condition in CONDITIONS, name
            assert (condition == "service_completed_successfully") == (other in ONE_SHOT), f"{name} waits for {other}"
            assert condition != "service_healthy" or "healthcheck" in SERVICES[other], f"{name} waits for {other}"


def test_compose_api_starts_without_the_broker() -> None:
    assert "rabbitmq" not in OURS["api"]["depends_on"]


def test_compose_publishes_the_api_alone_and_to_this_host() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {"api": ["127.0.0.1:${MILLPOND_PORT:-8080}:8080"]}


def test_compose_variables_have_defaults_and_settings_exist() -> None:
    text = json.dumps(COMPOSE)
    variables: Mapping[str, str] = dict(re.findall(r"\$\{(\w+)([^}]*)\}", text))

    assert all(rest.startswith((":-", ":?")) for rest in variables.values()), variables
    assert set(re.findall(r"MILLPOND_\w+", text + DOCKERFILE)) <= _settings()


def test_compose_volumes_are_declared_and_files_exist() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], f"{name}: {source}"


def test_compose_weights_are_written_by_one_service() -> None:
    writers = [name for name, service in OURS.items() if any(volume.startswith("models:") and not volume.endswith(":ro") for volume in service["volumes"])]

    assert writers == ["models"]


def test_compose_stops_no_worker_before_it_has_drained() -> None:
    for name, service in OURS.items():
        if service["command"][0] in {"worker", "webhooks"}:
            assert _seconds(service["stop_grace_period"]) >= load_settings().drain_s + 10, name


def test_compose_has_a_sealing_key_for_all_that_open_secrets() -> None:
    for name in ("api", "webhooks", "maintenance"):
        _, default = OURS[name]["environment"]["MILLPOND_SECRET_KEYS"].removesuffix("}").split(":-")
        assert Sealer([default]).key_id


def test_brokers_wait_longer_for_an_acknowledgement_than_a_message_can_stay_in_a_worker() -> None:
    conf = (ROOT / "deploy/rabbitmq/30-millpond.conf").read_text(encoding="utf-8")
    consumer_timeout_s = int(re.findall(r"^consumer_timeout = (\d+)$", conf, re.MULTILINE)[0]) / 1_000
    settings = load_settings()

    longest_s, _ = longest_in_worker_s(load_catalogue(settings))

    assert consumer_timeout_s > longest_s
    assert settings.visibility_timeout_s > longest_s
    assert f"{longest_s:,.0f} s at most" in conf


def test_dockerfile_installs_what_is_locked_and_runs_as_nobody_special() -> None:
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)

    assert len(stages) == 2
    assert len(set(stages)) == 1, "the virtual environment is made by the Python that runs it"
    assert not any(stage.endswith(":latest") or ":" not in stage for stage in stages)
    assert '--require-hashes -r "$REQUIREMENTS"' in DOCKERFILE
    assert "ARG REQUIREMENTS=requirements.lock" in DOCKERFILE
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["millpond"\]$', DOCKERFILE, re.MULTILINE)
    assert "ADD " not in DOCKERFILE


def test_image_holds_every_package_and_nothing_around_them() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}

    assert "*" in lines
    assert let_in == {*CODE, "catalogue.toml", "pyproject.toml", "README.md", "LICENSE", "requirements.lock", "requirements-all.lock"}
    assert all((ROOT / name).exists() for name in let_in)
