"""Fine-tuning through the official clients and plain HTTP: jobs, what comes of them, promotion.

The server is real; what it starts to train is a stand-in (``tests.support.stand_in_training``).
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import PydanticDeprecatedSince20
from scale_egp.sdk.client import EGPClient
from scale_gp import SGPClient

from tests.contract.conftest import Connect, name_of_its_own
from tests.support import chain
from tests.support.egp_commands import egp_commands, quietly
from tests.support.fine_tunings import EXAMPLES, PAIRS, Upload, base_id, ended, holding, job_of, order
from tests.support.server import Server
from tests.support.stand_in_training import Orders, loss_at
from tests.support.tiny_models import write_bert
from tests.support.training_server import MODULES, TrainingServer, training_server

with warnings.catch_warnings():
    # the client's fine-tuning types call pydantic 2's Field the way pydantic 1 took it
    warnings.simplefilter("ignore", PydanticDeprecatedSince20)
    from scale_egp.sdk.collections.fine_tuning import FineTuningJobCollection


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingServer]:
    """A server of this module alone, in place of the shared one: it trains with the stand-in."""
    with training_server(tmp_path_factory.mktemp("training") / "home") as running:
        yield running


@pytest.fixture(autouse=True)
def plain_orders(server: TrainingServer) -> None:
    server.order(Orders())


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_through_v4s_strict_client(sgp: SGPClient, admin: httpx.Client, account_id: str, upload: Upload) -> None:
    """Ordered, followed, completed; its events and its model are there, with a card that says where it comes from."""
    dataset = upload()
    job = sgp.fine_tuning_jobs.create(
        account_id=account_id,
        training_dataset_id=dataset.id,
        base_model_id=base_id(admin),
        vendor_configuration={
            "vendor": "LAUNCH",
            "hyperparameters": {"epochs": 2, "batch_size": 8, "seed": 7},
            "suffix": name_of_its_own("tuned"),
        },
    )
    assert job.status in {"PENDING", "RUNNING"}
    done = ended(admin, job.id)
    shown = sgp.fine_tuning_jobs.retrieve(job.id)
    assert shown.status == "COMPLETED"
    assert shown.vendor_configuration is not None
    assert shown.vendor_configuration.hyperparameters == {"epochs": 2, "batch_size": 8, "seed": 7}
    assert job.id in {each.id for each in sgp.fine_tuning_jobs.list()}
    assert (done["step"], done["steps"], done["evaluation"]["candidate"]) == (9, 9, {"loss": 1.0})

    events = list(sgp.fine_tuning_jobs.events.list(job.id))
    steps = [event for event in events if event.step is not None]  # type: ignore[attr-defined]
    assert [event.step for event in steps] == list(range(1, 10))  # type: ignore[attr-defined]
    assert steps[0].loss == loss_at(1, 7)  # type: ignore[attr-defined]
    assert steps[-1].validation_loss is not None  # type: ignore[attr-defined]
    assert "36 examples, 4 held out" in events[0].message

    assert shown.fine_tuned_model_id is not None
    model = sgp.models.retrieve(shown.fine_tuned_model_id)
    base = sgp.models.retrieve(base_id(admin))
    assert (model.base_model_id, model.model_type, model.model_template_id) == (
        base.id,
        base.model_type,
        base.model_template_id,
    )
    assert model.model_creation_parameters is not None
    assert model.model_creation_parameters["weights"] == "starter-chat"
    card = json.loads(model.model_card or "")
    assert card["training_dataset"]["digest"] == dataset.digest
    assert (card["seed"], card["hyperparameters"]["epochs"]) == (7, 2.0)
    assert card["loss_curve"][0] == [1, loss_at(1, 7), None]
    assert card["evaluation"]["base"] == {"loss": 2.0}
    assert json.loads(model.training_data_card or "")["examples"] == 40
    artifacts = {artifact["name"]: artifact for artifact in admin.get("/admin/artifacts").json()}
    assert card["base"]["digest"] == artifacts["starter-chat"]["digest"]
    assert artifacts[str(model.model_creation_parameters["adapter"])]["used_by"] == [model.name]

    refused = admin.delete(f"/v4/training-datasets/{dataset.id}")
    assert refused.status_code == 409
    assert job.id in refused.json()["detail"]
    deleted = sgp.fine_tuning_jobs.delete(job.id)
    assert deleted.success
    assert admin.get(f"/v4/fine-tuning-jobs/{job.id}").status_code == 404
    sgp.training_datasets.delete(dataset.id)
    sgp.models.delete(model.id)


def test_a_job_through_v3s_client(egp: EGPClient, admin: httpx.Client, upload: Upload) -> None:
    """Its create cannot be serialised with pydantic 2, so raw HTTP orders with every null spelled out; it reads all."""
    dataset = upload()
    job = order(
        admin,
        dataset.id,
        validation_dataset_id=dataset.id,
        fine_tuned_model_id=None,
        account_id=egp.account_id,
        vendor_configuration={
            "vendor": "LLMENGINE",
            "hyperparameters": {"epochs": "1", "packing": "False"},
            "wandb_config": None,
            "suffix": None,
            "output": None,
        },
    )
    done = ended(admin, job["id"])
    collection = FineTuningJobCollection(egp)
    read = collection.get(job["id"])
    assert read.status.value == "COMPLETED"
    assert read.fine_tuned_model_id == done["fine_tuned_model_id"]
    assert done["hyperparameters"]["epochs"] == 1.0
    assert done["hyperparameters"]["packing"] is False
    assert job["id"] in {each.id for each in collection.list()}
    assert admin.get(f"/v3/fine-tuning-jobs/{job['id']}/events").json()[0]["level"] == "info"
    assert collection.delete(job["id"])


@quietly
def test_the_scale_egp_command_line(
    server: Server, admin: httpx.Client, connect: Connect, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Upload, order (a JSON file that spells out every null), follow, list, delete: as its users script it."""
    examples, ordered = tmp_path / "examples.jsonl", tmp_path / "job.json"
    examples.write_text(EXAMPLES)
    with egp_commands(server.url, server.member_key) as run:
        dataset = run("training-dataset", "create", str(examples))
        assert (dataset["name"], dataset["data_source"]) == ("examples.jsonl", "LocalFile")
        assert run("training-dataset", "get", dataset["id"]) == dataset
        assert dataset in run("training-dataset", "list")
        configuration = {"vendor": "LAUNCH", "hyperparameters": {"epochs": 1}}
        nulls = {"wandb_config": None, "suffix": None, "output": None}
        body = {"base_model_id": base_id(admin), "training_dataset_id": dataset["id"], "validation_dataset_id": None}
        ordered.write_text(
            json.dumps({**body, "fine_tuned_model_id": None, "vendor_configuration": {**configuration, **nulls}})
        )
        job = run("fine-tuning-job", "create", str(ordered))
        ended(admin, job["id"])
        shown = run("fine-tuning-job", "get", job["id"])
        assert shown["status"] == "COMPLETED"
        assert shown in run("fine-tuning-job", "list")
        assert run("fine-tuning-job", "events", job["id"])[-1]["message"] == "completed"

        run("fine-tuning-job", "delete", job["id"])
        run("training-dataset", "delete", dataset["id"])
        for group, gone in (("fine-tuning-job", job), ("training-dataset", dataset)):
            with pytest.raises(SystemExit):
                run(group, "get", gone["id"])
            assert "ERROR (HTTP 404)" in capsys.readouterr().out


WRONG: dict[str, tuple[dict[str, Any], int, tuple[str, ...]]] = {
    "an unknown hyperparameter": (
        {"vendor_configuration": {"hyperparameters": {"epoch": 1}}},
        422,
        ("'epoch'", "there are: alpha"),
    ),
    "one out of range": ({"vendor_configuration": {"hyperparameters": {"rank": 0}}}, 422, ("'rank'", "1 to 1,024")),
    "a layer that the base does not have": (
        {"vendor_configuration": {"hyperparameters": {"target_modules": ["q_proj", "query_key_value"]}}},
        422,
        ("'starter-chat' (llama) has no 'query_key_value'; it has q_proj,",),
    ),
    "a quantized encoder": (
        {"base_model_id": "starter-embed-int8"},
        400,
        ("'starter-embed-int8' is quantized (I8, U8); fine-tune the float32 export of the same model",),
    ),
    "rows longer than the base was made for": (
        {"vendor_configuration": {"hyperparameters": {"sequence_length": 9000}}},
        422,
        ("'sequence_length' is 9,000, and 'starter-chat' was made for 2,048 tokens; lower it",),
    ),
    "one of another type": ({"vendor_configuration": {"hyperparameters": {"epochs": "many"}}}, 422, ("must be float",)),
    "another vendor": ({"vendor_configuration": {"vendor": "OPENAI"}}, 400, ("trains elsewhere",)),
    "an output": ({"vendor_configuration": {"output": "s3://x"}}, 400, ("output is not served",)),
    "no base": ({"base_model_id": None}, 422, ("base_model_id is required",)),
    "an unknown base": ({"base_model_id": "none"}, 404, ("no model",)),
    "an unknown dataset": ({"training_dataset_id": "none"}, 404, ("no training dataset",)),
    "a dataset of the other schema": ({"base_model_id": "starter-embed"}, 422, ("RERANKING_QUESTIONS",)),
    "more memory than there is": (
        {"vendor_configuration": {"hyperparameters": {"sequence_length": 1_000_000, "micro_batch_size": 4096}}},
        400,
        ("needs", "lower micro_batch_size"),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_order_is_refused(admin: httpx.Client, upload: Upload, what: str) -> None:
    """Before anything is stored, with what would be right."""
    body, status, words = WRONG[what]
    body = {"training_dataset_id": upload().id, "base_model_id": "starter-chat", **body}
    if body["base_model_id"] in {"starter-chat", "starter-embed", "starter-embed-int8"}:
        body["base_model_id"] = base_id(admin, body["base_model_id"])
    before = len(admin.get("/v3/fine-tuning-jobs").json())
    answer = admin.post("/v4/fine-tuning-jobs", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["x-should-retry"] == "false"
    for word in words:
        assert word in answer.json()["detail"]
    assert len(admin.get("/v3/fine-tuning-jobs").json()) == before


def test_what_cannot_be_trained_is_refused_with_what_can(server: Server, admin: httpx.Client, upload: Upload) -> None:
    """An architecture outside the table, and a model that is an adapter already."""
    name = name_of_its_own("odd")
    chain.import_weights(admin, write_bert(server.home / "import" / f"{name}.gguf"), name)
    odd = chain.make_model(admin, chain.EMBEDDING, name, name, "EMBEDDING")
    refused = admin.post("/v4/fine-tuning-jobs", json={"training_dataset_id": upload().id, "base_model_id": odd})
    assert refused.status_code == 400
    assert "(bert over gguf as EMBEDDING) cannot be fine-tuned. These can: text models" in refused.json()["detail"]
    assert "qwen3" in refused.json()["detail"]

    dataset = upload()
    tuned = ended(admin, order(admin, dataset.id)["id"])
    again = admin.post(
        "/v3/fine-tuning-jobs",
        json={"training_dataset_id": dataset.id, "base_model_id": tuned["fine_tuned_model_id"]},
    )
    assert again.status_code == 400
    assert "an adapter over 'starter-chat' already" in again.json()["detail"]


def test_a_member_sees_its_own_account_only(admin: httpx.Client, server: Server, upload: Upload) -> None:
    """Another account's datasets and jobs are not found, and not listed."""
    dataset = upload()
    job = order(admin, dataset.id)
    other = admin.post("/accounts", json={"account_name": name_of_its_own("account")}).json()["account_id"]
    made = admin.post("/admin/keys", json={"name": "other", "role": "member", "account_id": other}).json()
    with server.client(made["secret"]) as stranger:
        assert stranger.get("/v3/training-datasets").json() == []
        assert stranger.get("/v3/fine-tuning-jobs").json() == []
        for path in (
            f"/v4/training-datasets/{dataset.id}",
            f"/v4/training-datasets/{dataset.id}/contents",
            f"/v4/fine-tuning-jobs/{job['id']}",
            f"/v3/fine-tuning-jobs/{job['id']}/events",
        ):
            assert stranger.get(path).status_code == 404
        assert stranger.delete(f"/v4/fine-tuning-jobs/{job['id']}").status_code == 404
    ended(admin, job["id"])


def test_a_failure_is_told(server: TrainingServer, admin: httpx.Client, upload: Upload) -> None:
    """What the training process says, what it leaves in place of a result, and nothing stays of it in the home."""
    server.order(Orders(fail="the loss is not a number; lower learning_rate"))
    failed = ended(admin, order(admin, upload().id)["id"], "FAILED")
    assert failed["status_reason"] == "the loss is not a number; lower learning_rate"
    server.order(Orders(result="none"))
    assert "left no result" in ended(admin, order(admin, upload().id)["id"], "FAILED")["status_reason"]
    server.order(Orders(result="broken"))
    broken = ended(admin, order(admin, upload().id)["id"], "FAILED")
    assert "adapter" in broken["status_reason"]
    assert chain.until(lambda: not list((server.home / "training").iterdir()), "the folders are gone")


def test_cancelling(server: TrainingServer, admin: httpx.Client, upload: Upload) -> None:
    """A running job and one that waits for its turn end at once; deleting them again removes them."""
    server.order(Orders(hold_at_step=3))
    running, waiting = order(admin, upload().id), order(admin, upload().id)
    holding(admin, running["id"], 2)
    assert job_of(admin, waiting["id"])["status"] == "PENDING"
    assert "1 may run at once (finetuning_at_once)" in job_of(admin, waiting["id"])["status_reason"]
    for job in (waiting, running):
        assert admin.delete(f"/v4/fine-tuning-jobs/{job['id']}").json() == {"count": 1, "success": True}
        assert job_of(admin, job["id"])["status"] == "CANCELED"
    assert not list((server.home / "training").iterdir())
    admin.delete(f"/v4/fine-tuning-jobs/{running['id']}").raise_for_status()
    assert admin.get(f"/v4/fine-tuning-jobs/{running['id']}").status_code == 404
    assert admin.get("/v3/fine-tuning-jobs").json()[-1]["status"] == "CANCELED"


def test_what_an_encoder_does_not_have(admin: httpx.Client, upload: Upload) -> None:
    """Hyperparameters of adapters, before anything is stored; at their defaults they are no wish."""
    body = {
        "training_dataset_id": upload(PAIRS, "RERANKING_QUESTIONS").id,
        "base_model_id": base_id(admin, "starter-embed"),
    }

    def sent(**hyperparameters: Any) -> httpx.Response:
        configuration = {"vendor_configuration": {"hyperparameters": hyperparameters}}
        return admin.post("/v4/fine-tuning-jobs", json={**body, **configuration})

    refused = sent(rank=4, target_modules=["q_proj"], alpha=32.0)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("rank, target_modules: only adapters of text models have them")
    ended(admin, sent(rank=16, target_modules=[]).raise_for_status().json()["id"])


def test_what_a_job_stands_on_cannot_go(server: TrainingServer, admin: httpx.Client, upload: Upload) -> None:
    """Its base stays until it has ended, by whatever dialect it is to be deleted; then it goes."""
    name = name_of_its_own("base")
    base = chain.make_model(admin, chain.CHAT, "starter-chat", name, "CHAT_COMPLETION")
    server.order(Orders(hold_at_step=3))
    job = order(admin, upload().id, base_model_id=base)
    holding(admin, job["id"], 2)
    for dialect in ("v3", "v4"):
        refused = admin.delete(f"/{dialect}/models/{base}")
        assert refused.status_code == 409
        assert f"model '{name}' is needed by 1 fine-tuning job(s)" in refused.json()["detail"]
        assert job["id"] in refused.json()["detail"]
    admin.delete(f"/v4/fine-tuning-jobs/{job['id']}").raise_for_status()
    admin.delete(f"/v3/models/{base}").raise_for_status()


def test_a_model_that_was_deployed_since_the_order(server: TrainingServer, admin: httpx.Client, upload: Upload) -> None:
    """Its weights cannot change under its deployment: the job has failed, and says what its training is kept as."""
    name = name_of_its_own("target")
    target = chain.make_model(admin, chain.CHAT, "starter-chat", name, "CHAT_COMPLETION")
    server.order(Orders(hold_at_step=3))
    job = order(admin, upload().id, fine_tuned_model_id=target)
    holding(admin, job["id"], 2)
    made = admin.post(f"/v3/models/{target}/deployments", json={"name": name}).raise_for_status().json()
    server.go.touch()
    reason = ended(admin, job["id"], "FAILED")["status_reason"]
    assert reason.startswith(f"'{name}' is deployed ({name})")
    kept = re.search(r"it is kept as '(\S+)'", reason)
    assert kept
    assert kept[1] in {artifact["name"] for artifact in admin.get("/admin/artifacts").json()}
    chain.remove(admin, chain.Deployed(name, target, made["id"]))


# --- what comes of it ------------------------------------------------------------------------------------------------


def test_a_reranker_and_an_embedder(server: TrainingServer, admin: httpx.Client, upload: Upload) -> None:
    """What is trained from ONNX weights is weights of its own, and no model of the zoo; it deploys like any other."""
    server.order(Orders(metric=(0.5, 0.75)))
    dataset = upload(PAIRS, "RERANKING_QUESTIONS")
    jobs = [order(admin, dataset.id, base) for base in ("starter-embed", "starter-rerank")]
    for job, kind in zip(jobs, ("embedding", "reranking"), strict=True):
        done = ended(admin, job["id"])
        assert done["kind"] == kind
        model = admin.get(f"/v3/models/{done['fine_tuned_model_id']}").json()
        assert model["model_creation_parameters"].keys() == {"weights"}
        artifacts = {artifact["name"]: artifact for artifact in admin.get("/admin/artifacts").json()}
        assert artifacts[model["model_creation_parameters"]["weights"]]["zoo_name"] is None


def test_promotion_and_the_way_back(server: TrainingServer, admin: httpx.Client, upload: Upload) -> None:
    """An alias moves when the result is not worse, by force when it is, and goes back by one call."""
    listed = {model["id"]: model for model in admin.get("/v1/models").json()["data"]}
    base_deployment = listed["starter-chat"]["deployment_id"]
    alias = name_of_its_own("alias")
    made = admin.post(
        "/v4/serving", json={"name": alias, "alias": alias, "model_deployment_id": base_deployment}
    ).raise_for_status()
    server_id = made.json()["model_server_id"]
    dataset = upload()
    good = order(admin, dataset.id)
    ended(admin, good["id"])
    server.order(Orders(metric=(1.0, 1.5)))
    bad = order(admin, dataset.id)
    ended(admin, bad["id"])

    refused = admin.post(f"/admin/fine-tuning-jobs/{bad['id']}/promote", json={"model_server": alias})
    assert refused.status_code == 409
    assert "its loss on 4 held-out examples is 1.5, the base's 1" in refused.json()["detail"]
    assert admin.get(f"/v4/serving/{server_id}").json()["model_deployment_id"] == base_deployment

    promoted = admin.post(f"/admin/fine-tuning-jobs/{good['id']}/promote", json={}).raise_for_status().json()
    assert (promoted["promotion"]["target_name"], promoted["promotion"]["is_forced"]) == (alias, False)
    new = admin.get(f"/v4/serving/{server_id}").json()["model_deployment_id"]
    assert new == promoted["promotion"]["to_id"] != base_deployment
    asked = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
    admin.post(f"/v4/serving/a/{alias}/execute", json=asked).raise_for_status()
    residents = {each["deployment_id"] for each in server.state()["residents"]}
    assert new in residents

    forced = admin.post(f"/admin/fine-tuning-jobs/{bad['id']}/promote", json={"model_server": alias, "force": True})
    assert forced.raise_for_status().json()["promotion"]["is_forced"] is True
    stale = admin.post(f"/admin/fine-tuning-jobs/{good['id']}/rollback")
    assert stale.status_code == 409
    assert "moved on since" in stale.json()["detail"]
    for job in (bad, good):
        back = admin.post(f"/admin/fine-tuning-jobs/{job['id']}/rollback").raise_for_status().json()
        assert back["promotion"] is None
    assert admin.get(f"/v4/serving/{server_id}").json()["model_deployment_id"] == base_deployment
    assert admin.post(f"/admin/fine-tuning-jobs/{good['id']}/rollback").status_code == 409
    admin.delete(f"/v4/serving/{server_id}").raise_for_status()


def test_a_deployment_is_promoted_in_place(admin: httpx.Client, upload: Upload) -> None:
    """Its id stays; with no server and no name it is not guessed what to move."""
    deployed = chain.deploy(admin, chain.CHAT, "starter-chat", name_of_its_own("live"))
    job = order(admin, upload().id, base_model_id=deployed.model_id)
    done = ended(admin, job["id"])
    path = f"/admin/fine-tuning-jobs/{job['id']}"
    missing = admin.post(f"{path}/promote", json={})
    assert missing.status_code == 422
    assert "no model server stands before a model of the same base or group" in missing.json()["detail"]
    admin.post(f"{path}/promote", json={"deployment": deployed.name}).raise_for_status()
    assert admin.get(f"/v3/models/{done['fine_tuned_model_id']}/deployments").json()[0]["id"] == deployed.deployment_id
    admin.post(f"{path}/rollback").raise_for_status()
    assert admin.get(deployed.path).raise_for_status().json()["status"] == "READY"
    chain.remove(admin, deployed)


# --- without what trains ---------------------------------------------------------------------------------------------


def test_without_the_extra_datasets_work_and_jobs_say_what_to_run(tmp_path: Path) -> None:
    """501 on every route of jobs, which clients need not send again; datasets are taken all the same."""
    with training_server(tmp_path / "home", **{MODULES: "no_such_library"}) as server, server.client() as admin:
        form, file = {"name": "any", "schema_type": "GENERATION"}, {"file": ("x.jsonl", EXAMPLES.encode())}
        dataset = admin.post("/v3/training-datasets", data=form, files=file).raise_for_status().json()
        body = {"training_dataset_id": dataset["id"], "base_model_id": base_id(admin)}
        for dialect in ("v3", "v4"):
            jobs = f"/{dialect}/fine-tuning-jobs"
            for method, path, sent_body in (
                ("GET", jobs, None),
                ("POST", jobs, body),
                ("GET", f"{jobs}/x", None),
                ("GET", f"{jobs}/x/events", None),
                ("DELETE", f"{jobs}/x", None),
            ):
                answer = admin.request(method, path, json=sent_body)
                assert answer.status_code == 501, path
                assert answer.json()["code"] == "not_installed"
                assert "no_such_library missing" in answer.json()["detail"]
                assert "./install.sh --with-finetuning" in answer.json()["detail"]
                assert answer.headers["x-should-retry"] == "false"
        assert admin.post("/admin/fine-tuning-jobs/x/promote", json={}).status_code == 501
        assert admin.delete(f"/v4/training-datasets/{dataset['id']}").status_code == 200
