"""Templates in bounds: what chat templates need works, what could harm is stopped with a reason."""

from __future__ import annotations

from datetime import datetime

import pytest

from appliance.domain.errors import InvalidParameter
from appliance.engines.llama import jinja
from appliance.engines.llama.jinja import MAX_TEMPLATE_CHARACTERS, render


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for x in xs %}\n{{ x }}\n{% endfor %}", "1\n2\n3\n"),
        ("    {% if true %}\nyes\n    {% endif %}\n", "yes\n"),
        ("{% for x in xs %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}", "1"),
        ("{% for x in xs %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "13"),
        ("{{ {'a': '<é&>'} | tojson }}", '{"a": "<é&>"}'),
        ("{{ {'a': [1]} | tojson(indent=2) }}", '{\n  "a": [\n    1\n  ]\n}'),
        ("{% set ns = namespace(n=0) %}{% for x in xs %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}", "6"),
        ("{{ 'a' ~ 1 ~ 'b' ~ nothing }}", "a1b"),
        ("{{ ' x '.strip() + 'a-b'.split('-')[1] + 'Ab'.lower() }}", "xbab"),
        ("{{ 'a.b'.replace('.', '!') }}{{ ','.join(['x', 'y']) }}{{ ['p', 'q'] | join('+') }}", "a!bx,yp+q"),
        ("{% macro m(v) %}[{{ v }}]{% endmacro %}{{ m(1) ~ m(2) }}", "[1][2]"),
        ("{{ xs | selectattr('no', 'defined') | list | length }}{{ xs[1:] | length }}", "02"),
        ("{{ 'x' * 3 }}{{ 7 % 4 }}{{ 2 ** 5 }}{{ [1] + [2] }}", "xxx332[1, 2]"),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
        ("{% generation %}", None),
    ],
)
def test_a_template_renders_as_transformers_would(source: str, expected: str | None) -> None:
    """Trimmed blocks, loop controls, JSON without escapes, namespaces, macros and the usual methods."""
    if expected is None:
        with pytest.raises(InvalidParameter, match="unknown tag"):
            render(source, {"xs": [1, 2, 3]})
    else:
        assert render(source, {"xs": [1, 2, 3]}) == expected


def test_a_template_may_ask_for_the_date() -> None:
    """strftime_now gives today's date in the form asked for."""
    assert render("{{ strftime_now('%Y') }}", {}) == str(datetime.now().year)


def test_a_template_may_refuse_a_conversation() -> None:
    """raise_exception becomes a 4xx with its message."""
    with pytest.raises(InvalidParameter, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}", {})


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ xs.append(1) }}",
        "{{ (xs | attr('__class__')) }}{{ raise_exception.__globals__['os'].system('true') }}",
        "{{ 'a'.center(10**9) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ 'a' * 10**9 }}",
        "{{ [1] * 10**9 }}",
        "{{ 2 ** 99999 }}",
        "{{ 'aaaaaaaaaaaaaaaaaaaa'.replace('', 'x' * 4000000) }}",
        "{{ ('y' * 4000000).join(['1', '2', '3', '4', '5', '6']) }}",
        "{% set ns = namespace(x='a' * 1000000) %}{% for i in range(30) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% for i in range(20) %}{{ 'a' * 1000000 }}{% endfor %}",
        "{{ range(10000000) | list }}",
        "{{ lipsum(1000) }}",
        "{% include 'etc' %}",
        "{% import 'os' as os %}",
        "{{ {'a': 1} | tojson(indent=10000000) }}",
        "{{ 1 / 0 }}",
        "{{ xs.nothing.at_all }}",
        "{% if %}",
        "{{ 'a' | center(1000000000) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_hostile_or_broken_template_is_an_invalid_parameter(source: str) -> None:
    """No way to objects, no changes, no huge texts, no crash: an error that says the template was at fault."""
    with pytest.raises(InvalidParameter, match="template"):
        render(source, {"xs": [1, 2, 3]})


@pytest.mark.parametrize(
    "source",
    [
        "{% set xs = range(99999) %}{% for a in xs %}{% for b in xs %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    ],
    ids=["loops", "calls"],
)
def test_a_template_that_never_ends_is_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops and calls look at the clock."""
    monkeypatch.setattr(jinja, "MAX_RENDER_SECONDS", 0.05)
    with pytest.raises(InvalidParameter, match="longer than"):
        render(source, {})


def test_a_template_has_a_size() -> None:
    """An over-long one is not even parsed."""
    with pytest.raises(InvalidParameter, match="characters"):
        render("x" * (MAX_TEMPLATE_CHARACTERS + 1), {})
