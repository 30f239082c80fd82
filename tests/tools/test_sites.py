"""The site checker: it catches each slip in a synthetic source, lets good code pass, and finds none
in the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import ctext, sites

HOME = (sites.SOURCES / sites.HOME).read_text()
KNOWN = sites.accessors(HOME)


def wrong(body: str, name: str = "made_up.c") -> list[str]:
    return [problem.what for problem in sites.problems_of(name, body, KNOWN)]


def test_real_sources_have_no_problem() -> None:
    assert sites.problems() == []


def test_accessors_are_known_with_field_kind_and_claim() -> None:
    known = {accessor.name: accessor for accessor in KNOWN}
    assert known["hak_free_push_chain"][1:] == ("free_list", "push_chain", True)
    assert known["hak_free_take_all"][1:] == ("free_list", "take_all", True)
    assert known["hak_free_pop_chain"][1:] == ("free_list", "pop", True)
    assert known["hak_remote_push_chain"][1:] == ("remote_list", "push_chain", False)
    assert known["hak_remote_take_all"][1:] == ("remote_list", "take_all", False)
    assert known["hak_used_add"][1:] == ("used_count", "store", True)
    assert known["hak_claim_try"][1:] == ("claim_seq", "claim", False)
    assert known["hak_claim_release"][1:] == ("claim_seq", "release", False)
    assert {accessor.field for accessor in KNOWN} == set(sites.FIELDS)


def test_every_mention_of_an_accessor_in_the_sources_is_a_site() -> None:
    """Counted another way: by words of the blanked text, less the definitions and macro lines."""
    texts = sites.sources()
    names = {accessor.name for accessor in KNOWN} | set(sites.CLAIM_WRAPPERS)
    for file, text in texts.items():
        plain = ctext.without_directives(ctext.blank(text))
        spans = ctext.functions(plain)
        bodies = " ".join(plain[span.start : span.end] for span in spans)
        words = (
            bodies.replace("(", " ( ")
            .replace("!", " ")
            .replace(")", " ")
            .replace(",", " ")
            .replace("&", " ")
            .split()
        )
        mentions = sum(word in names for word in words)
        assert mentions == len(sites.sites_of(file, text, KNOWN)), file


@pytest.mark.parametrize(
    "access",
    [
        "slab->free_list",
        "slab->remote_list",
        "(*slab).used_count",
        "records[3].claim_seq",
        "offsetof(hak_slab, free_list)",
    ],
)
def test_direct_access_is_caught(access: str) -> None:
    assert any(
        "direct access" in what
        for what in wrong(f"void f(hak_slab *slab) {{ uint64_t x = {access}; (void)x; }}")
    )
    assert any("direct access" in what for what in wrong(f"#define PEEK(slab) ({access})\n")), (
        "a macro is no way around"
    )


def test_comments_and_strings_are_no_access() -> None:
    assert (
        wrong('/* slab->free_list */ void f(void) { puts("slab->free_list"); } // used_count\n')
        == []
    )


def test_double_pop_is_caught() -> None:
    body = """
    void f(hak_slab *slab, uint64_t base) {
        uint64_t last, first;
        if (!hak_free_is_nonempty(slab)) return;
        first = hak_free_pop_chain(slab, base, 1, &last);
        base += 1;
        first = hak_free_pop_chain(slab, base, 1, &last);
        use(first);
    }"""
    assert [what.split(":")[0] for what in wrong(body)] == ["double pop"]
    assert wrong(body.replace("base += 1;", "use(first);")) == []


def test_pops_in_two_branches_are_one() -> None:
    assert (
        wrong("""
    void f(hak_slab *slab, uint64_t base, bool all) {
        uint64_t last, first;
        if (hak_free_is_empty(slab)) return;
        if (all) {
            first = hak_word_first(base, hak_free_take_all(slab));
        } else {
            first = hak_free_pop_chain(slab, base, 1, &last);
        }
        use(first);
    }""")
        == []
    )


def test_double_take_of_the_remote_list_is_caught() -> None:
    body = """
    void f(hak_slab *slab) {
        uint64_t word;
        if (!hak_remote_is_nonempty(slab)) return;
        hak_remote_take_all(slab, &word);
        hak_remote_take_all(slab, &word);
        use(word);
    }"""
    assert [what.split(":")[0] for what in wrong(body)] == ["double pop"]


def test_double_push_is_caught() -> None:
    body = """
    void f(hak_slab *slab, uint64_t base, uint64_t first, uint64_t last) {
        hak_free_push_chain(slab, base, first, last, 1);
        hak_free_push_chain(slab, base, first, last, 1);
    }"""
    assert [what.split(":")[0] for what in wrong(body)] == ["double push"]
    assert wrong(body.replace("1);", "1); first = last = next();", 1)) == []


def test_push_after_a_push_that_failed_is_one_push() -> None:
    good = """
    void f(hak_slab *slab, uint64_t base, uint64_t first, uint64_t last) {
        while (!hak_remote_push_chain(slab, base, first, last, 1)) {
            hak_free_push_chain(slab, base, first, last, 1);
            break;
        }
    }"""
    assert wrong(good) == []
    assert len(wrong(good.replace("!hak_remote", "hak_remote"))) == 1, "pushed both times"


@pytest.mark.parametrize(
    ("statement", "caught"),
    [
        ("uint32_t unit = hak_empty_pop(t); use(unit);", True),
        ("uint32_t unit = hak_empty_pop(t); if (unit) use(unit);", False),
        ("uint32_t unit = hak_empty_pop(t); if (!unit) return; use(unit);", False),
        ("for (uint32_t unit; (unit = hak_empty_pop(t));) use(unit);", False),
        (
            "for (uint32_t unit = hak_mail_take_all(t, 1); unit; unit = next(unit)) use(unit);",
            False,
        ),
        ("for (uint32_t unit = hak_mail_take_all(t, 1);; unit = next(unit)) use(unit);", True),
        ("return hak_empty_pop(t);", False),
        (
            "uint64_t last; uint64_t first = hak_free_pop_chain(slab, base, 4, &last); "
            "use(first, last);",
            True,
        ),
        (
            "uint64_t last, first; if (hak_free_count(slab) < 4) return; "
            "first = hak_free_pop_chain(slab, base, 4, &last); use(first);",
            False,
        ),
        ("uint64_t word; hak_remote_take_all(slab, &word); use(word);", True),
        (
            "uint64_t word; hak_remote_take_all(slab, &word); "
            "n = hak_word_count(word); for (i = 0; i < n; i++) use(word);",
            False,
        ),
        ("(void)hak_free_take_all(slab);", False),
    ],
)
def test_missing_check_after_a_pop_is_caught(statement: str, caught: bool) -> None:
    found = wrong(f"void f(hak_thread *t, hak_slab *slab, uint64_t base) {{ {statement} }}")
    assert any("missing check" in what for what in found) == caught, found


def test_function_spans_survive_odd_text() -> None:
    text = ctext.without_directives(
        ctext.blank("""
    #define OPEN {
    static const int table[] = {1, 2};
    typedef struct x { int a; } x;
    __attribute__((noinline)) static void first(void) { if ('{') { puts("}"); } /* } */ }
    HAK_COLD int second(int (*f)(int), int b) {
        return f(b);
    }
    """)
    )
    assert [span.name for span in ctext.functions(text)] == ["first", "second"]


def test_an_accessor_of_no_known_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="hak_free_frobnicate"):
        sites.accessors(
            "static inline void hak_free_frobnicate(hak_slab *slab) { slab->free_list = 0; }"
        )


def test_command_prints_table_and_status(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert sites.main([]) == 0
    printed = capsys.readouterr().out
    assert (
        "take_all" in printed
        and "under the claim" in printed
        and printed.rstrip().endswith("0 problems")
    )
    (tmp_path / sites.HOME).write_text(HOME)
    (tmp_path / "bad.c").write_text("int f(hak_slab *s) { return (int)s->used_count; }\n")
    assert sites.main(["--sources", str(tmp_path), "--all"]) == 1
    assert "bad.c:1: f: direct access to used_count" in capsys.readouterr().out
    (tmp_path / sites.HOME).unlink()
    assert sites.main(["--sources", str(tmp_path)]) == 2
    assert "checkout" in capsys.readouterr().err
