"""The options that a registry states are those that the class behind it takes."""

import inspect

import pytest

from pvsc_link.codecs.registry import CODECS
from pvsc_link.options import load_implementation
from pvsc_link.schemes.registry import SCHEMES

DESCRIBED = CODECS | SCHEMES


@pytest.mark.parametrize("name", DESCRIBED)
def test_options_are_the_keywords_of_the_class_with_the_same_defaults(name):
    described = DESCRIBED[name]
    keywords = inspect.signature(load_implementation(described.implementation)).parameters
    options = described.Options.model_fields
    assert set(keywords) == set(options)
    for key, option in options.items():
        stated = inspect.Parameter.empty if option.is_required() else option.default
        assert keywords[key].default == stated, key


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_option_says_what_it_means(name):
    assert all(field.description for field in DESCRIBED[name].Options.model_fields.values())
