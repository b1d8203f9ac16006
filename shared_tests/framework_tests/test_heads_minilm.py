"""The heads of a trained BERT are weighed and removed, where its package is installed."""

import numpy as np
import pytest

from shared_tests.cases import minilm
from shared_tests.cases.table import REAL
from shared_tests.harness.find import find
from shared_tests.studies import importance, sentence_model
from shared_tests.studies.experiment import gradient
from shared_tests.studies.sentence_model import SentenceModel
from shared_tests.studies.sentences import JUDGED, PAIRS

pytestmark = pytest.mark.skipif(not REAL, reason=f"{minilm.PACKAGE} is not installed")
FEW = tuple(group[:3] for group in PAIRS[:2])


@pytest.fixture(scope="module")
def model():
    """On 6 pairs, so that it is fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentence_model, "PAIRS", FEW)
        yield SentenceModel(find("torch_impl"))


@pytest.fixture(scope="module")
def recorded(model):
    return model.recorded()


def gated(model, layer, head, gate):
    """The model with a gate on one head: a factor of its columns of W_o."""
    weights = {name: array.astype(np.float64) for name, array in model.weights[layer].items()}
    weights["W_o.weight"][:, 32 * head : 32 * head + 32] *= gate
    changed = object.__new__(SentenceModel)
    changed.__dict__ |= model.__dict__ | {"whole": list(model.whole)}
    changed.whole[layer] = model.subject.build(model.config, weights, "float64")
    return changed


def test_losses_by_hand(model):
    """The cross entropy, both ways, of 20 times the cosines within a group."""
    run = model.model.run(model.pairs)
    first, second = run.embeddings[6:9], run.embeddings[9:12]  # of the second group
    powers = np.exp(20 * first @ second.T)
    found = [powers[i, i] ** 2 / powers[i].sum() / powers[:, i].sum() for i in range(3)]
    np.testing.assert_allclose(model.losses(())[3:], -np.log(found) / 2, rtol=1e-6)


@pytest.mark.parametrize(("layer", "head"), [(0, 3), (2, 10), (5, 5)])
def test_importance_is_what_a_gate_does_to_the_loss_of_each_pair(model, recorded, layer, head):
    """Through all layers above it, against differences of the losses with the gate at 1 + h and 1 - h."""
    step = 1e-5
    above, below = (gated(model, layer, head, 1 + sign * step).losses(()) for sign in (1, -1))
    found = gradient(model.subject, model.whole, recorded)
    assert found.shape == (6, 12)
    np.testing.assert_allclose(found[layer, head], np.abs((above - below) / (2 * step)).mean(), rtol=1e-5)


def test_the_three_agree(model, recorded):
    """From the same inputs and gradients of the output; one layer, since they are alike."""
    layers = slice(3, 4)
    found = [gradient(one, model.layers(one)[layers], recorded[layers]) for one in map(find, ("jax_impl", "tf_impl"))]
    expected = gradient(model.subject, model.whole[layers], recorded[layers])
    assert max(importance.apart(one, expected) for one in found) < 1e-12


def test_removed_heads_are_gone_from_the_layer_that_has_them(model):
    """Head 40 is the fifth of layer 4. The whole model is as like itself as can be, whatever is padding."""
    assert len(JUDGED) == 32
    assert model.quality(()) == pytest.approx(1, abs=1e-12)
    assert [layer.num_heads for layer, _ in model.pruned((40, 41, 0))] == [11, 12, 12, 10, 12, 12]
    closed = gated(model, 3, 4, 0.0)
    np.testing.assert_allclose(model.losses((40,)), closed.losses(()), rtol=1e-9)
    assert model.quality((40,)) == pytest.approx(closed.quality(()), abs=1e-12)
    assert model.quality((40,)) < 1 - 1e-5


def test_queries_that_are_padding_do_not_count(model, recorded):
    lengths = model.pairs["attention_mask"].sum(1).numpy()
    assert lengths.min() < lengths.max()
    for one in recorded:
        counted = one.valid_lens > 0
        np.testing.assert_array_equal(counted.sum(axis=1), lengths)
        np.testing.assert_array_equal(one.valid_lens.max(axis=1), lengths)
        assert not one.attention_weights[0, :, 0, lengths[0] :].any()
        for *_, lens, slope in one.batches:
            assert not slope[np.arange(slope.shape[1]) >= lens[:, None]].any()
