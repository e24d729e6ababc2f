"""The two packages users import offer these names, no more and no less, and explain them."""

import importlib
import inspect

import pytest

# A name that comes or goes here is news for users: it belongs into CHANGELOG.md too.
OFFERED = {
    "effbert.exporter": "ExportOptions export",
    "effbert.runtime": """
        ENGINES AgreementError Answer Bundle BundleError Cancel CancelledError CheckpointError
        Classification CompileError EffbertError EffbertWarning EncodedText Encoder EngineError
        Entity Exit ExportError InputError IntegrityError Kept Labelled ManifestError
        MissingDependencyError NumericalError OutputExistsError ParityError PathError Placement
        PlanError PointStats Prediction ResourceError Result RunError Session Stats Text TextEncoder
        TokenLabels TraceError UnsafeContentError VersionError by_length choose_exits
        fit_temperature open_bundle read_labelled read_texts record_segments
    """,
}


@pytest.mark.parametrize("package", OFFERED)
def test_what_is_offered_is_what_users_were_promised(package: str) -> None:
    offered = importlib.import_module(package).__all__
    assert sorted(offered) == sorted(OFFERED[package].split())


@pytest.mark.parametrize("package", OFFERED)
def test_every_name_exists_and_has_a_docstring(package: str) -> None:
    module = importlib.import_module(package)
    for name in OFFERED[package].split():
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__doc__, name


@pytest.mark.parametrize("package", OFFERED)
def test_what_is_imported_with_a_star_is_what_is_offered(package: str) -> None:
    found: dict[str, object] = {}
    exec(f"from {package} import *", found)
    assert {name for name in found if name != "__builtins__"} == {*OFFERED[package].split()}


@pytest.mark.parametrize("package", OFFERED)
def test_a_name_that_is_not_there_is_an_ordinary_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module(package).no_such_name  # noqa: B018
