"""Gateways without gRPC ask over HTTP: nginx auth_request, Caddy forward_auth, HAProxy by Lua."""

import pytest

from lib.http import send, statuses
from lib.processes import free_port
from lib.tollgate import Tollgate
from lib.wait import until

RULES = """
domain: web
descriptors:
  - key: remote_address
    rate_limit: { unit: day, requests_per_unit: 3, name: per_client }
"""

# auth_request passes on only 401 and 403; the headers of the answer have to be taken over by hand
NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      auth_request /limit;
      auth_request_set $retry_after $upstream_http_retry_after;
      auth_request_set $ratelimit $upstream_http_ratelimit;
      error_page 403 = @refused;
      add_header RateLimit $ratelimit;
      proxy_pass http://127.0.0.1:{upstream};
    }}
    location = /limit {{
      internal;
      proxy_pass http://127.0.0.1:{tollgate}/auth/web?deny_status=403;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header X-Real-IP $http_x_test_client;
      proxy_set_header X-Original-URI $request_uri;
      proxy_set_header X-Forwarded-For "";
      proxy_set_header X-Forwarded-Uri "";
      proxy_set_header X-Forwarded-Method "";
      proxy_set_header X-Forwarded-Host "";
    }}
    location @refused {{
      add_header Retry-After $retry_after always;
      return 429;
    }}
  }}
}}
"""

CADDY = """
{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  forward_auth 127.0.0.1:{tollgate} {{
    uri /auth/web
    header_up X-Real-IP {{header.X-Test-Client}}
    copy_headers RateLimit
  }}
  reverse_proxy 127.0.0.1:{upstream}
}}
"""

HAPROXY = """
global
  lua-load {folder}/limit.lua
defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 10s
frontend web
  bind 127.0.0.1:{port}
  http-request lua.limit
  http-request return status 429 hdr retry-after %[var(txn.retry_after)] if {{ var(txn.status) -m int 429 }}
  http-request deny deny_status 503 unless {{ var(txn.status) -m int 200 }}
  default_backend upstream
backend upstream
  server one 127.0.0.1:{upstream}
"""

HAPROXY_LUA = """
core.register_action("limit", {{ "http-req" }}, function(txn)
  local client = txn.http:req_get_headers()["x-test-client"]
  local answer = core.httpclient():get{{
    url = "http://127.0.0.1:{tollgate}/auth/web",
    headers = {{ ["x-real-ip"] = {{ client and client[0] or "127.0.0.1" }} }}
  }}
  txn:set_var("txn.status", answer.status)
  local retry = answer.headers["retry-after"]
  txn:set_var("txn.retry_after", retry and retry[0] or "")
end)
"""


@pytest.fixture(scope="module")
def server(shared):
    return Tollgate(shared, RULES)


def gateway(shared, server, upstream, name, command, **files):
    """Starts a gateway whose configuration is made of `files`, and waits until it answers."""
    folder = shared.folder / f"{name}-config"
    folder.mkdir()
    port = free_port()
    for file, text in files.items():
        values = {"folder": folder, "port": port, "tollgate": server.http, "upstream": upstream.port}
        (folder / file.replace("_dot_", ".")).write_text(text.format(**values))
    process = shared.start(name, [part.replace("FOLDER", str(folder)) for part in command])

    def answers():
        process.must_run()
        return send(port, "/", {"x-test-client": f"10.9.9.{len(name)}"}).status

    until(answers, f"{name} answers")
    return port


@pytest.fixture(scope="module")
def nginx(shared, server, upstream):
    command = ["nginx", "-p", "FOLDER", "-c", "FOLDER/nginx.conf"]
    return gateway(shared, server, upstream, "nginx", command, nginx_dot_conf=NGINX)


@pytest.fixture(scope="module")
def caddy(shared, server, upstream):
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", "FOLDER/Caddyfile"]
    return gateway(shared, server, upstream, "caddy", command, Caddyfile=CADDY)


@pytest.fixture(scope="module")
def haproxy(shared, server, upstream):
    command = ["haproxy", "-db", "-f", "FOLDER/haproxy.cfg"]
    return gateway(
        shared, server, upstream, "haproxy", command, haproxy_dot_cfg=HAPROXY, limit_dot_lua=HAPROXY_LUA
    )


@pytest.mark.parametrize("name, client", [("nginx", "10.1.0.1"), ("caddy", "10.2.0.1"), ("haproxy", "10.3.0.1")])
def test_exactly_the_limit_passes_and_the_rest_is_told_when_to_come_again(request, name, client):
    port = request.getfixturevalue(name)
    answers = [send(port, "/page", {"x-test-client": client}) for _ in range(5)]
    assert statuses(answers) == [200, 200, 200, 429, 429]
    assert 0 < int(answers[3]["retry-after"]) <= 86400
    other = send(port, "/page", {"x-test-client": client + "0"})
    assert other.status == 200


def test_nginx_hands_on_what_is_left(nginx):
    answer = send(nginx, "/", {"x-test-client": "10.1.0.2"})
    assert answer["ratelimit"].startswith('"per_client";r=2;t=')


def test_caddy_hands_on_the_fields_of_a_refusal(caddy):
    answers = [send(caddy, "/", {"x-test-client": "10.2.0.2"}) for _ in range(4)]
    assert answers[3]["ratelimit"].startswith('"per_client";r=0;t=')
    assert answers[3]["ratelimit-policy"] == '"per_client";q=3;w=86400'
