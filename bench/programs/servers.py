"""Servers, on 127.0.0.1 and a free port, for a bounded number of requests: redis, nginx,
PostgreSQL."""

from __future__ import annotations

import gzip
import hashlib
import re
import signal
import urllib.error
import urllib.request
from pathlib import Path

from bench.programs.program import Program, executable
from bench.programs.stage import Stage, free_port, is_listening, is_root

# ---- redis ---------------------------------------------------------------------------------------

LATENCY = re.compile(r"[\d.]+ requests per second, p50=[\d.]+ msec")


def commands(count: int) -> str:
    """Commands that leave every kind of value behind, small and large encodings of each."""
    lines = []
    for n in range(count):
        lines += [
            f"SET plain:{n} {'v' * (n % 300)}",
            f"HSET hash:{n % 200} field{n} {n * 7919}",
            f"RPUSH list:{n % 50} {'item' * (n % 9)}{n}",
            f"SADD set:{n % 70} {n * 31 % 5000}",
            f"ZADD zset:{n % 30} {n % 977} member{n % 3000}",
            f"APPEND text:{n % 20} {n}",
            f"XADD stream:{n % 5} {n + 1}-1 field {n}",
            f"SETBIT bits {n * 3} 1",
            f"PFADD logs user{n % 999}",
        ]
        if n % 3 == 0:
            lines.append(f"DEL plain:{n // 2}")
    return "\n".join(lines) + "\n"


def redis_work(stage: Stage) -> None:
    port = free_port()
    server = [
        executable("redis-server"),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(stage.scratch),
        "--save",
        "",
    ]
    client = [executable("redis-cli"), "-p", str(port)]
    requests = 500 if stage.quick else 60_000
    tests = "ping,set,get,incr,lpush,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset"

    def load() -> None:
        stage.run(*client, feed=commands(200 if stage.quick else 12_000).encode(), label="fill")

    def look(label: str) -> None:
        stage.run(*client, "DEBUG", "DIGEST", label=f"{label} digest")
        stage.run(*client, "DBSIZE", label=f"{label} size")

    with stage.serve(
        *server,
        "--enable-debug-command",
        "yes",
        ready=lambda: is_listening(port),
        label="redis-server",
    ):
        bench = [
            executable("redis-benchmark"),
            "-p",
            str(port),
            "-n",
            str(requests),
            "-c",
            "20",
            "-P",
            "4",
            "-q",
            "-r",
            "10000",
            "-d",
            "100",
        ]
        said = stage.run(*bench, "-t", tests, keep=False)
        names = [
            line.rpartition("\r")[2].partition(":")[0]
            for line in said.splitlines()
            if LATENCY.search(line)
        ]
        stage.say("redis-benchmark", "\n".join(names))
        stage.run(*client, "FLUSHALL", label="flush")
        load()
        look("filled")
        eval_text = (
            "local n = 0 for i = 1, 2000 do n = n + #tostring(redis.call('hget', 'hash:' "
            ".. i % 200, 'field' .. i) or '') end return n"
        )
        stage.run(*client, "EVAL", eval_text, "0", label="lua")
        stage.run(*client, "MEMORY", "DOCTOR", label="memory", keep=False)
        stage.run(*client, "DEBUG", "RELOAD", label="reload")
        look("reloaded")
        stage.run(*client, "SORT", "set:1", "LIMIT", "0", "20", "DESC", label="sort")


# ---- nginx ---------------------------------------------------------------------------------------

NGINX_CONF = """
{user}daemon off; pid {scratch}/nginx.pid; error_log {scratch}/error.log warn; worker_processes 2;
events {{ worker_connections 256; }}
http {{
    access_log {scratch}/access.log;
    client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi; uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    gzip on; gzip_min_length 100; gzip_types text/plain application/json;
    sendfile off; keepalive_requests 10000;
    server {{ listen 127.0.0.1:{port}; root {files}; autoindex on; autoindex_format json;
        location /again/ {{ proxy_pass http://127.0.0.1:{port}/; proxy_buffers 8 4k; }}
        location /say {{ return 200 "$request_method $uri $args\\n"; }}
    }}
}}
"""


def nginx_prepare(directory: Path, quick: bool) -> None:
    for n in range(12):
        (directory / f"file{n}.txt").write_text(
            "".join(f"{n} {k * 7919 % 1000}\n" for k in range(3**n % 20_000 + n)), encoding="utf-8"
        )


def fetch(port: int, path: str, packed: bool) -> str:
    """Status and a digest of what a server answers, unpacked."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Accept-Encoding": "gzip"} if packed else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            body, status, coding = (
                answer.read(),
                answer.status,
                answer.headers.get("Content-Encoding", "plain"),
            )
    except urllib.error.HTTPError as error:
        body, status, coding = error.read(), error.code, "plain"
    if coding == "gzip":
        body = gzip.decompress(body)
    return f"{path} {status} {coding} {len(body)} {hashlib.sha256(body).hexdigest()[:16]}\n"


def nginx_work(stage: Stage) -> None:
    port = free_port()
    config = stage.scratch / "nginx.conf"
    config.write_text(
        NGINX_CONF.format(
            user="user root; " if is_root() else "",
            scratch=stage.scratch,
            port=port,
            files=stage.input,
        ),
        encoding="utf-8",
    )
    nginx = [
        executable("nginx"),
        "-p",
        str(stage.scratch),
        "-c",
        str(config),
        "-e",
        str(stage.scratch / "error.log"),
    ]
    with stage.serve(*nginx, ready=lambda: is_listening(port), label="nginx", stop=signal.SIGQUIT):
        for path in [f"/file{n}.txt" for n in range(12)] + [
            "/again/file7.txt",
            "/again/say?x=1",
            "/say?y=%20z",
            "/",
            "/nothing",
        ]:
            if path not in ("/",):
                stage.say("fetched", fetch(port, path, False) + fetch(port, path, True))
        for place in ("/file5.txt", "/again/file6.txt", "/say?" + "long" * 200):
            count = 200 if stage.quick else 8000
            load = ["-q", "-k", "-c", "10", "-n", str(count), "-H", "Accept-Encoding: gzip"]
            said = stage.run(executable("ab"), *load, f"http://127.0.0.1:{port}{place}", keep=False)
            kept = ("Complete requests", "Failed requests", "Document Length", "Non-2xx")
            stage.say(
                "ab", "".join(f"{line}\n" for line in said.splitlines() if line.startswith(kept))
            )


# ---- PostgreSQL ----------------------------------------------------------------------------------

BIN = "usr/lib/postgresql/*/bin"
SQL = """
CREATE EXTENSION IF NOT EXISTS plpgsql;
CREATE TABLE item AS SELECT i AS id, md5(i::text) AS name, i % 97 AS kind,
    (i * 1.25)::numeric(12, 2) AS price,
    jsonb_build_object('a', i, 'b', ARRAY[i, i + 1], 'c', md5((i * 7)::text)) AS doc
    FROM generate_series(1, {rows}) AS i;
CREATE INDEX ON item(name);
CREATE INDEX ON item USING gin(doc);
ANALYZE item;
SELECT kind, count(*), sum(price), min(name) FROM item GROUP BY kind ORDER BY kind;
SELECT count(*) FROM item a JOIN item b ON a.id = b.id * 3 AND a.kind <> b.kind;
SELECT md5(string_agg(name, ',' ORDER BY name DESC)) FROM item;
SELECT count(*) FROM item WHERE name ~ '^[0-9]+[a-f]{{2}}.*7$';
SELECT count(*) FROM item WHERE doc @> '{{"a": 77}}';
SELECT sum((doc -> 'b' ->> 1)::bigint), count(DISTINCT doc ->> 'c') FROM item;
SELECT md5(string_agg(regexp_replace(name, '([a-f]+)', '<\\1>', 'g'), '' ORDER BY id)) FROM item;
SELECT name, rank() OVER (PARTITION BY kind ORDER BY price DESC) FROM item
    WHERE kind < 5 ORDER BY name LIMIT 30;
DO $$ DECLARE r record; n bigint := 0; BEGIN
    FOR r IN SELECT * FROM item ORDER BY name LOOP n := n + length(r.name || r.doc::text); END LOOP;
    RAISE NOTICE 'length %', n;
END $$;
"""
BALANCES = """
SELECT sum(abalance), md5(string_agg(abalance::text, ',' ORDER BY aid)) FROM pgbench_accounts;
SELECT sum(tbalance), md5(string_agg(tbalance::text, ',' ORDER BY tid)) FROM pgbench_tellers;
SELECT bbalance FROM pgbench_branches ORDER BY bid;
SELECT count(*), sum(delta) FROM pgbench_history;
"""


def postgres_work(stage: Stage) -> None:
    port = free_port()
    data = stage.scratch / "data"
    user = "postgres"
    stage.give(stage.scratch, user)
    initdb, postgres, pgbench, psql = (
        executable(f"{BIN}/{name}") for name in ("initdb", "postgres", "pgbench", "psql")
    )
    # Memory of a kind that outlives nothing: /dev/shm may be small where this runs.
    settings = {
        "shared_buffers": "16MB",
        "dynamic_shared_memory_type": "mmap",
        "max_connections": "20",
        "fsync": "off",
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    stage.run(
        initdb,
        "-D",
        data,
        "-U",
        "postgres",
        "--auth=trust",
        "--no-sync",
        "--locale=C.UTF-8",
        "--encoding=UTF8",
        user=user,
        keep=False,
    )
    at = ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
    server = [
        postgres,
        "-D",
        str(data),
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-k",
        str(stage.scratch),
        *words,
    ]
    ask = [psql, *at, "-d", "postgres", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1"]
    with stage.serve(
        *server, ready=lambda: answers(stage, port), label="postgres", user=user, stop=signal.SIGINT
    ):
        stage.run(
            *ask, feed=SQL.format(rows=2_000 if stage.quick else 150_000).encode(), label="psql"
        )
        scale, clients, turns = (1, 2, 40) if stage.quick else (4, 4, 2500)
        stage.run(
            pgbench, *at, "-i", "-q", "-s", str(scale), "postgres", label="pgbench -i", keep=False
        )
        load = ["-n", "-c", str(clients), "-j", "2", "-t", str(turns), "--random-seed=7"]
        said = stage.run(pgbench, *at, *load, "-M", "prepared", "postgres", keep=False)
        kept = (
            "number of transactions actually",
            "number of failed",
            "scaling factor",
            "query mode",
        )
        stage.say(
            "pgbench", "".join(f"{line}\n" for line in said.splitlines() if line.startswith(kept))
        )
        stage.run(*ask, feed=BALANCES.encode(), label="balances")


def answers(stage: Stage, port: int) -> bool:
    """Whether the server takes connections: it has written that it is ready into its pid file."""
    try:
        lines = (stage.scratch / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[7].strip() == "ready" and is_listening(port)


PROGRAMS = (
    Program(
        "redis",
        "redis-benchmark, every kind of value, Lua, fork to save, reload (without preload it "
        "runs on its jemalloc)",
        ("redis-server", "redis-tools"),
        ("redis-server", "redis-cli", "redis-benchmark"),
        ("redis-server|redis-check-rdb", "redis-cli", "redis-benchmark"),
        redis_work,  # Debian links the one to the other
    ),
    Program(
        "nginx",
        "two workers: files, gzip, a proxy to itself, under ab",
        ("nginx-light", "apache2-utils"),
        ("nginx", "ab"),
        ("nginx", "ab"),
        nginx_work,
        nginx_prepare,
    ),
    Program(
        "postgres",
        "initdb, pgbench with 4 clients, sorts, joins, json, PL/pgSQL",
        ("postgresql", "postgresql-contrib"),
        (f"{BIN}/initdb", f"{BIN}/postgres", f"{BIN}/pgbench", f"{BIN}/psql"),
        ("initdb", "postgres", "psql", "pgbench"),
        postgres_work,
    ),
)
