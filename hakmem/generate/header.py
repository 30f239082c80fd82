"""The text of the C header ``hak_layout.h``, from `hakmem.layout`. Standard library only: the build
runs it."""

from __future__ import annotations

from .. import layout
from . import mirror


def _c_member(field: layout.Field) -> str:
    base = layout.SCALARS[field.type] if field.type in layout.SCALARS else field.type
    if field.names:
        return (
            "union { " + " ".join(f"{base} {name};" for name in (field.name, *field.names)) + " }"
        )
    return f"{base} {field.name}[{field.count}]" if field.count > 1 else f"{base} {field.name}"


def _c_struct(struct: layout.Struct) -> list[str]:
    lines = [f"/* {struct.meaning} */", f"typedef struct {struct.name} {{"]
    for field in struct.fields:
        note = "; ".join(part for part in (field.meaning, field.unit, field.access) if part)
        lines.append(f"    {_c_member(field)}; /* {note} */")
    lines.append(f"}} {struct.name};")
    made = mirror.structure(struct.name)
    lines.append(f'_Static_assert(sizeof({struct.name}) == {struct.size}, "{struct.name}: size");')
    for field in struct.fields:
        offset = getattr(made, field.name).offset
        where = f"{struct.name}.{field.name}"
        lines.append(
            f'_Static_assert(offsetof({struct.name}, {field.name}) == {offset}, "{where}: offset");'
        )
        member = f"(({struct.name} *)0)->{field.name}"
        lines.append(
            f'_Static_assert(sizeof({member}) == {getattr(made, field.name).size}, "{where}: '
            'size");'
        )
        if field.type in layout.SCALARS:
            element = member + ("[0]" if field.count > 1 else "")
            base = layout.SCALARS[field.type]
            lines.append(
                f'_Static_assert(_Generic({element}, {base}: 1, default: 0), "{where}: type and '
                'sign");'
            )
    return lines


def c_header() -> str:
    """The text of ``hak_layout.h``."""
    lines = [
        "/* hak_layout.h: printed by hakmem/layout.py. Change that file, not this one. */",
        "#ifndef HAK_LAYOUT_H",
        "#define HAK_LAYOUT_H",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        f"#define HAK_LAYOUT_HASH UINT64_C(0x{mirror.LAYOUT_HASH:016x})",
    ]
    for item in layout.CONSTANTS:
        value = f"UINT64_C(0x{item.value:x})" if item.value >= 1 << 31 else str(item.value)
        lines.append(f"#define {item.name} {value} /* {item.meaning} */")
    for struct in layout.STRUCTS:
        lines += ["", *_c_struct(struct)]
    lines += [
        "",
        f"#define HAK_VARIABLE_COUNT {len(layout.ENVIRONMENT)} /* environment variables that set "
        "a field of the policy */",
    ]
    lines += ["", "#define HAK_COUNTERS(X) \\"]
    lines += [f"    X({field.name}) \\" for field in layout.COUNTERS[:-1]] + [
        f"    X({layout.COUNTERS[-1].name})"
    ]
    lines += ["", "#endif", ""]
    return "\n".join(lines)
