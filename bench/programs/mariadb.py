"""MariaDB, on a socket in the scratch directory: a schema, joins, JSON, temporary tables, four
clients at once."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.programs.program import Program, executable
from bench.programs.stage import Stage

SCHEMA = """
create table part (id int primary key, name varchar(60), size int, index (size)) engine=InnoDB;
insert into part select seq, concat('part ', seq * 7919 % 10007), seq % 997 from seq_1_to_{count};
create table note (part int, body json);
insert into note select seq % {count} + 1, json_object('n', seq, 'text', repeat('x', seq % 200))
    from seq_1_to_{count};
"""
ASK = """
select size % 10 as k, count(*), sum(id), max(name) from part group by k order by k;
select count(*), sum(json_value(body, '$.n')) from part join note on part.id = note.part
    where size < 500;
select name from part order by reverse(name), id limit 5;
select md5(group_concat(name order by id)) from part where id <= 2000;
create temporary table most as select size, count(*) c from part group by size;
select sum(c), max(size) from most;
update part set name = upper(name) where size % 3 = 0;
delete from note where part % 5 = 0;
select count(*), sum(length(body)) from note;
check table part, note;
"""


def is_answering(client: list[str | Path]) -> bool:
    """Whether the server takes questions."""
    done = subprocess.run([*map(str, client), "-e", "select 1"], capture_output=True, check=False)
    return done.returncode == 0


def mariadb_work(stage: Stage) -> None:
    data, socket = stage.scratch / "data", stage.scratch / "socket"
    common = ["--no-defaults", f"--datadir={data}"]
    stage.run(
        executable("mariadb-install-db"),
        *common,
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--user=root",
        keep=False,
        label="install",
    )
    client: list[str | Path] = [
        executable("mariadb"),
        "--no-defaults",
        f"--socket={socket}",
        "-u",
        "root",
    ]
    server = [
        executable("mariadbd"),
        *common,
        "--user=root",
        "--skip-networking",
        f"--socket={socket}",
        f"--pid-file={stage.scratch / 'pid'}",
        "--innodb-buffer-pool-size=64M",
    ]
    count = 2_000 if stage.quick else 100_000
    with stage.serve(*server, ready=lambda: is_answering(client), label="mariadbd"):
        stage.run(*client, "-e", "create database work", label="create")
        stage.run(*client, "work", feed=SCHEMA.format(count=count).encode(), label="schema")
        stage.run(*client, "work", feed=ASK.encode(), label="ask")
        load = (
            "select count(*) from work.part a join work.note n on a.id = n.part where a.size < 50"
        )
        stage.run(
            executable("mariadb-slap"),
            "--no-defaults",
            f"--socket={socket}",
            "-u",
            "root",
            "--concurrency=4",
            "--iterations=2",
            f"--query={load}",
            f"--number-of-queries={8 if stage.quick else 100}",
            keep=False,
            label="slap",
        )
        stage.run(*client, "work", "-e", "select count(*) from part", label="count")


PROGRAMS = (
    Program(
        "mariadb",
        "a schema, joins, JSON, temporary tables, four clients at once",
        ("mariadb-server",),
        ("mariadbd", "mariadb", "mariadb-install-db", "mariadb-slap"),
        ("mariadbd",),
        mariadb_work,
    ),
)
