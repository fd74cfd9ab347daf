"""label-selector-filter: every label and every expression must hold, as in a Kubernetes selector."""

import pytest

from endpoint_picker.scheduling.filters.label_selector import LabelOperator, LabelRequirement, LabelSelectorFilter
from endpoint_picker.scheduling.interfaces import Filter
from unit.endpoint_picker.scheduling.building import REQUEST, endpoint

A100 = endpoint("10.0.0.1:8000", labels={"gpu": "a100", "zone": "a"})
H100 = endpoint("10.0.0.2:8000", labels={"gpu": "h100"})
BARE = endpoint("10.0.0.3:8000")
IN, NOT_IN = LabelOperator.IN, LabelOperator.NOT_IN
EXISTS, DOES_NOT_EXIST = LabelOperator.EXISTS, LabelOperator.DOES_NOT_EXIST


@pytest.mark.parametrize(
    ("selector", "kept"),
    [
        pytest.param(LabelSelectorFilter(), [A100, H100, BARE], id="empty-selector-keeps-all"),
        pytest.param(LabelSelectorFilter({"gpu": "h100"}), [H100], id="label"),
        pytest.param(LabelSelectorFilter({"gpu": "a100", "zone": "b"}), [], id="all-labels-must-match"),
        pytest.param(LabelSelectorFilter({}, (LabelRequirement("gpu", IN, ("h100", "a100")),)), [A100, H100], id="in"),
        pytest.param(
            LabelSelectorFilter({}, (LabelRequirement("gpu", NOT_IN, ("h100",)),)),
            [A100, BARE],
            id="not-in-holds-for-a-missing-label",
        ),
        pytest.param(LabelSelectorFilter({}, (LabelRequirement("zone", EXISTS),)), [A100], id="exists"),
        pytest.param(
            LabelSelectorFilter({}, (LabelRequirement("zone", DOES_NOT_EXIST),)), [H100, BARE], id="does-not-exist"
        ),
        pytest.param(
            LabelSelectorFilter({"gpu": "a100"}, (LabelRequirement("zone", DOES_NOT_EXIST),)),
            [],
            id="labels-and-expressions",
        ),
    ],
)
def test_filter(selector: Filter, kept: list[object]) -> None:
    assert selector.filter(REQUEST, [A100, H100, BARE]) == kept


@pytest.mark.parametrize(
    ("key", "operator", "values", "message"),
    [
        pytest.param("", EXISTS, (), "key", id="empty-key"),
        pytest.param("gpu", IN, (), "needs values", id="in-without-values"),
        pytest.param("gpu", NOT_IN, (), "needs values", id="not-in-without-values"),
        pytest.param("gpu", EXISTS, ("a",), "takes no values", id="exists-with-values"),
    ],
)
def test_impossible_requirement_is_refused(
    key: str, operator: LabelOperator, values: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LabelRequirement(key, operator, values)
