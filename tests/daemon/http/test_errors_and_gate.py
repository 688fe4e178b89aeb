"""What every answer has in common, and who gets one: errors, headers, keys, hosts, origins, sizes."""

from __future__ import annotations

import httpx
import openai
import pytest
from pydantic import ValidationError

from skilldeck_daemon.settings import BadSettings, Settings, load_settings
from skilldeck_daemon.wire.caller import client_of
from support.daemon import running
from support.scripted_model import Turn


async def test_unknown_urls_and_methods_answer_with_the_four_key_error() -> None:
    async with running(strict=False) as daemon:
        for method, path, status in (
            ("GET", "/nothing", 404),
            ("GET", "/responses/", 404),
            ("PUT", "/responses", 405),
            ("GET", "/responses/resp_none", 404),
            ("DELETE", "/responses/resp_none", 404),
            ("POST", "/responses/resp_none/cancel", 404),
            ("GET", "/responses/resp_none?stream=true", 404),
            ("GET", "/responses/resp_none/input_items", 404),
        ):
            answer = await daemon.http.request(method, path)
            assert answer.status_code == status, (method, path, answer.text)
            assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("base", ["", "/v1", "/v1/v1"])
async def test_the_base_url_of_a_client_may_lack_the_v1_or_have_it_twice(base: str) -> None:
    async with running(Turn("a"), Turn("b")) as daemon:
        url, hi = daemon.url.removesuffix("/v1") + base, [{"role": "user", "content": "hi"}]
        chat = await daemon.http.post(f"{url}/chat/completions", json={"model": "default", "messages": hi})
        message = await daemon.http.post(f"{url}/messages", json={"model": "claude", "max_tokens": 9, "messages": hi})
        assert (chat.status_code, chat.json()["choices"][0]["message"]["content"]) == (200, "a")
        assert (message.status_code, message.json()["content"][0]["text"]) == (200, "b")
        assert (await daemon.http.get(f"{url}/models/default")).json()["id"] == "scripted"


@pytest.mark.parametrize("path", ["/messages", "/v1/messages", "/v1/v1/messages", "/anthropic/v1/messages", "/files"])
async def test_who_asks_by_anthropics_api_is_refused_in_its_shape_however_the_path_is_spelled(path: str) -> None:
    async with running(api_key=["right"], max_body_mb=1, strict=False) as daemon:
        url, version = daemon.url.removesuffix("/v1") + path, {"anthropic-version": "2023-06-01"}
        key = {**version, "x-api-key": "right"}
        async with httpx.AsyncClient() as bare:
            for answer, status, kind in (
                (await bare.post(url, json={}, headers=version), 401, "authentication_error"),
                (await bare.post(url, content=b" " * (2 << 20), headers=key), 413, "request_too_large"),
                (await bare.patch(url, headers=key), 405, "invalid_request_error"),
                (await bare.get(url, headers={**key, "origin": "https://evil.example"}), 403, "permission_error"),
            ):
                assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), answer.text
                assert answer.json()["type"] == "error"


async def test_messages_are_answered_below_anthropic_too() -> None:
    async with running(Turn("b")) as daemon:
        url = daemon.url.removesuffix("/v1") + "/anthropic/v1/messages"
        body = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        answer = await daemon.http.post(url, json=body)
        assert (answer.status_code, answer.json()["content"][0]["text"]) == (200, "b")


@pytest.mark.parametrize(
    "path", ["/vector_stores", "/messages/batches/b_1", "/complete", "/audio/speech", "/threads/t/runs"]
)
async def test_an_api_that_is_not_here_is_refused_by_its_name(path: str) -> None:
    async with running(strict=False) as daemon:
        answer = await daemon.http.post(path, json={})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (404, "unknown_url")
        assert error["message"].startswith("This server has no ")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("order=up", "order"),
        ("after=msg_none", "after"),
        ("include[]=all", "include[0]"),
    ],
)
async def test_wrong_paging_names_the_parameter(query: str, param: str) -> None:
    async with running(Turn("x")) as daemon:
        response = await daemon.respond()
        answer = await daemon.http.get(f"/responses/{response['id']}/input_items?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param


async def test_every_answer_carries_the_headers_sdks_read() -> None:
    async with running(Turn("x")) as daemon:
        raw = await daemon.client.responses.with_raw_response.create(model="default", input="x")
        assert raw.request_id is not None
        assert raw.request_id.startswith("req_")
        assert int(raw.headers["openai-processing-ms"]) >= 0
        assert raw.headers["openai-version"]
        failed = await daemon.http.get("/nothing")
        assert failed.headers["x-request-id"].startswith("req_")


async def test_a_permanent_conflict_tells_sdks_not_to_retry() -> None:
    async with running(strict=False) as daemon:
        skill = await daemon.client.skills.create(
            files=[("a/SKILL.md", b"---\nname: a\ndescription: d\n---\n", "text/markdown")]
        )
        body = {"files": ("a/SKILL.md", b"---\nname: a\ndescription: e\n---\n")}
        assert (await daemon.http.post(f"/skills/{skill.id}/versions", files=body)).status_code == 200
        answer = await daemon.http.delete(f"/skills/{skill.id}/versions/1")
        assert (answer.status_code, answer.headers["x-should-retry"]) == (409, "false")


async def test_keys_are_required_when_there_are_any_and_health_is_open() -> None:
    async with running(Turn("x"), api_key=["first-key", "second-key"], strict=False) as daemon:
        assert await daemon.client.models.list()
        wrong = [None, "Bearer nope", "Basic first-key", "Bearer first-ke", "Bearer", "first-key"]
        async with httpx.AsyncClient(base_url=daemon.url) as bare:
            for value in wrong:
                answer = await bare.get("/models", headers={"authorization": value} if value else {})
                assert answer.status_code == 401, value
                assert answer.json()["error"]["code"] == "invalid_api_key"
            assert (await bare.get("/models", headers={"authorization": "Bearer second-key"})).status_code == 200
            assert (await bare.get(daemon.url.removesuffix("/v1") + "/health")).status_code == 200
            assert (await bare.get(daemon.url.removesuffix("/v1") + "/metrics")).status_code == 401
        async with openai.AsyncOpenAI(base_url=daemon.url, api_key="nope", max_retries=0) as stranger:
            with pytest.raises(openai.AuthenticationError):
                await stranger.models.list()


async def test_names_that_were_rebound_to_this_machine_are_refused() -> None:
    async with running(strict=False, allowed_hosts=["box.lan"]) as daemon:
        port = daemon.url.split(":")[2].split("/")[0]
        for host, status in (
            ("evil.example", 403),
            (f"evil.example:{port}", 403),
            ("", 403),
            (f"localhost:{port}", 200),
            ("app.localhost", 200),
            ("box.lan", 200),
            ("192.168.1.5:99", 200),
            ("[::1]:80", 200),
        ):
            answer = await daemon.http.get("/models", headers={"host": host})
            assert answer.status_code == status, host


@pytest.mark.parametrize("key", [None, "a-key"])
async def test_a_host_that_is_no_host_is_refused_with_keys_and_without(key: str | None) -> None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with running(strict=False, api_key=[key] if key else []) as daemon:
        for host in (
            "[::1].evil.com",
            "127.0.0.1:1234@evil.com",
            "localhost:80:80",
            "localhost/evil.com",
            "localhost?x",
            "localhost#evil.com",
            "[::1",
            "[localhost]",
            "localhost evil.com",
            "localhost,evil.com",
            "ｌocalhost".encode(),
        ):
            answer = await daemon.http.get("/models", headers={**headers, "host": host})  # type: ignore[dict-item]
            assert answer.status_code == 400, host


async def test_web_pages_of_other_origins_may_not_call_unless_they_are_allowed() -> None:
    async with running(Turn("x"), cors_origins=["https://ui.example"], strict=False) as daemon:
        body = {"model": "default", "input": "x"}
        refused = await daemon.http.post("/responses", json=body, headers={"origin": "https://evil.example"})
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers
        allowed = await daemon.http.post("/responses", json=body, headers={"origin": "https://ui.example"})
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://ui.example"
        asked = {"origin": "https://ui.example", "access-control-request-method": "POST"}
        preflight = await daemon.http.request("OPTIONS", "/responses", headers=asked)
        assert preflight.status_code == 204
        assert "POST" in preflight.headers["access-control-allow-methods"]


async def test_a_body_beyond_the_limit_is_refused_with_and_without_a_length() -> None:
    async with running(strict=False, max_body_mb=1) as daemon:

        async def chunks() -> object:
            for _ in range(40):
                yield b"x" * 65536

        for content in (b"x" * (2 << 20), chunks()):
            try:
                answer = await daemon.http.post("/responses", content=content)  # type: ignore[arg-type]
            except httpx.WriteError:  # the daemon closed before all was sent
                continue
            assert answer.status_code == 413


async def test_health_says_why_tokens_cannot_flow() -> None:
    async with running(load=False) as daemon:
        answer = await daemon.http.get(daemon.url.removesuffix("/v1") + "/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "idle")
        refused = await daemon.http.post("/responses", json={"model": "default", "input": "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_not_loaded")


def test_beyond_loopback_needs_a_key() -> None:
    with pytest.raises(BadSettings, match="api-key"):
        load_settings(host="0.0.0.0")
    assert load_settings(host="0.0.0.0", api_key=["k"]).keys == ["k"]


def test_settings_come_from_flags_then_variables_then_the_file(
    own_environment: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skilldeck_shared import paths

    paths.config_file().parent.mkdir(parents=True)
    paths.config_file().write_text('port = 1\nmodel = "file"\nmax_containers = 3\n[tui]\ntheme = "dark"\n')
    monkeypatch.setenv("SKILLDECK_MODEL", "variable")
    monkeypatch.setenv("SKILLDECK_API_KEY", "key-1, key-2")
    settings = load_settings(port=2)
    assert (settings.port, settings.model, settings.max_containers) == (2, "variable", 3)
    assert settings.keys == ["key-1", "key-2"]
    assert "key-1" not in repr(settings)
    paths.config_file().write_text("prot = 1\n")
    with pytest.raises(BadSettings, match="'prot'"):
        load_settings()
    paths.config_file().write_text("port = \n")
    with pytest.raises(BadSettings, match="TOML"):
        load_settings()


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(BadSettings, match="port"):
        load_settings(port=70000)
    with pytest.raises(ValidationError):
        Settings(sandbox="maybe")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("agent", "client"),
    [
        ("OpenAI/Python 2.3.0", "OpenAI/Python"), ("claude-cli/1.0.3 (external, cli)", "claude-cli"),
        ("codex_cli_rs/0.46.0 (Debian 12; x86_64)", "codex_cli_rs"), ("curl/7.88.1", "curl"), ("x" * 99, "x" * 40),
        ("", ""), ("\x1b[31mred", ""), ("Größe/1", "Gr"),
    ],
)  # fmt: skip
def test_a_program_is_known_by_what_it_calls_itself(agent: str, client: str) -> None:
    assert client_of(agent) == client
