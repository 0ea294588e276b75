"""Rules without a prior's name change the default prior; where all have names they replace it."""

import pytest

from bnnzoo.errors import OptionError
from bnnzoo.models.model import build_model
from bnnzoo.specs import spec_from_tree


def prior_of(**section):
    return build_model(spec_from_tree({"prior": section}))


def test_rules_without_names_change_the_gaussian():
    model = prior_of(rules={"layers.0.*": {"std": 2.0}})
    assert model.spec.prior.name == "gaussian"
    assert model.prior.priors[0].scale == 2.0
    assert model.prior.base.scale == 1.0


def test_rules_that_are_all_named_stand_alone():
    assert prior_of(rules={"*": {"name": "laplace"}}).prior.base is None


@pytest.mark.parametrize("rules", [5, "text", {"*": 3}])
def test_rules_that_are_no_table_are_one_line(rules):
    with pytest.raises(OptionError, match="should be a table of options"):
        prior_of(rules=rules)
